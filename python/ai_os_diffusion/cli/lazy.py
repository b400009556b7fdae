"""A command group that imports a verb's module only when that verb runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
import typer.core
import typer.main

from ai_os_diffusion.cli.failures import ParseError, reported
from ai_os_diffusion.cli.terminal.wrapping import width_of

__all__ = ["LazyGroup", "new_app"]

# verb: (module of `verbs`, one line of help)
VERBS = {
    "pull": ("models", "Get a model: a known name, hf:ORG/NAME, a folder or a file."),
    "models": ("models", "List the models that are here, and those known by name."),
    "rm": ("models", "Remove a model."),
    "convert": ("formats", "Turn a Hugging Face folder or a GGUF file into a model folder."),
    "quantize": ("formats", "Store a model's weights in fewer bits."),
    "inspect": ("formats", "Show what a model or a weight file holds: tensors, types, bits per weight."),
    "embed": ("vectors", "Turn texts into vectors."),
    "similarity": ("vectors", "Say how near two texts are in meaning."),
    "add": (
        "remember",
        "Remember documents: text, Markdown, HTML, PDF, EPUB, DOCX, ODT, mail, code, tables, notebooks.",
    ),
    "recall": ("remember", "Find what was remembered, with file and line."),
    "ask": ("answer", "Answer a question from memory, with citations."),
    "generate": ("writing", "Let the model write of itself, held to phrases, a pattern or a JSON schema."),
    "diffuse": ("writing", "Write by diffusion: answers, gaps of a text, values of a template."),
    "chat": ("answer", "Talk with the model, from memory or without."),
    "memory": ("memory", "List, show, forget, count, export and import memories."),
    "learn": ("learning", "Learn a skill from questions and answers."),
    "skills": ("skills", "List, show, ask and remove the skills that were learned."),
    "evolve": ("evolving", "Learn what was corrected: correct, run, status, history, rollback."),
    "train-diffusion": ("training", "Train a card with which a model writes by diffusion."),
    "train-reader": ("training", "Train a card with which an encoder finds answers in passages."),
    "doctor": ("machine", "Show what this machine offers and what will be used."),
    "bench": ("machine", "Measure encoding, decoding and search on this machine."),
}
# Those that have verbs of their own.
GROUPS = ("memory", "skills", "evolve")
# The parser writes no help that is narrower, unless it is told to.
_LEAST_OF_PARSER = 52
# Options of the program itself; they may also stand after the verb.
GLOBAL_OPTIONS = ("--store", "--models-dir", "--config")
# Verbs that have one of these names for an option of their own; behind the verb it is theirs.
OWN_OPTIONS = {"train-diffusion": ("--config",), "train-reader": ("--config",)}


class SuggestingGroup(typer.core.TyperGroup):
    """A group of verbs that says what a verb which does not exist may have been meant to be."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Find the verb that the first word names."""
        try:
            return super().resolve_command(ctx, args)
        except ParseError:
            from ai_os_diffusion.cli.suggestions import suggestions

            group = "" if ctx.parent is None else str(ctx.info_name)
            groups = {owner: _verb(owner).commands for owner in GROUPS}
            near = suggestions(args[0], VERBS, groups, group)
            if near:
                meant = " or ".join(f"`aios {verb}`" for verb in near)
                ctx.fail(f"No such command {args[0]!r}; did you mean {meant}?")
            raise


class LazyGroup(SuggestingGroup):
    """The program: knows its verbs by name, and turns every failure into a message and an exit code."""

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The verbs in the order a newcomer needs them."""
        return list(VERBS)

    def get_command(self, _ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Import the verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        return _verb(cmd_name)

    def format_commands(self, _ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the list of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Accept the program's options after the verb too."""
        ctx.meta["json"] = "--json" in _before_dashes(args)
        return super().parse_args(ctx, hoist(args))

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse; help is written here, into a pipe that may be closed."""
        width = width_of(sys.stdout)
        if width is not None and width < _LEAST_OF_PARSER:
            extra["terminal_width"] = width
        with reported(as_json="--json" in _before_dashes(args)):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the verb; no traceback reaches the user."""
        with reported(as_json=ctx.meta["json"]):
            return super().invoke(ctx)


def _verb(name: str) -> Any:
    """The command, or group of commands, that a verb is."""
    module = importlib.import_module(f"ai_os_diffusion.cli.verbs.{VERBS[name][0]}")
    command: Any = typer.main.get_command(module.app)
    return getattr(command, "commands", {}).get(name, command)


def new_app(**settings: Any) -> typer.Typer:
    """A Typer that imports nothing for looks: plain help, plain errors."""
    return typer.Typer(
        cls=SuggestingGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        suggest_commands=False,
        **settings,
    )


def hoist(args: list[str]) -> list[str]:
    """Move the program's options to the front; what follows `--` is left alone."""
    front: list[str] = []
    rest: list[str] = []
    head = _before_dashes(args)
    position = 0
    options: tuple[str, ...] = GLOBAL_OPTIONS
    while position < len(head):
        word = head[position]
        if word in OWN_OPTIONS and options is GLOBAL_OPTIONS:
            options = tuple(option for option in GLOBAL_OPTIONS if option not in OWN_OPTIONS[word])
        if word in options:
            if position + 1 == len(head):
                # Its value is missing: alone, so that the parser says this and takes no other word for it.
                return [word]
            front += head[position : position + 2]
            position += 2
            continue
        (front if word.startswith(tuple(f"{option}=" for option in options)) else rest).append(word)
        position += 1
    return front + rest + args[len(head) :]


def _before_dashes(args: list[str]) -> list[str]:
    return args[: args.index("--")] if "--" in args else args
