"""`aios learn` and `aios skills`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import model_names
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import DryRun, Json, Question, Quiet, Settings, Yes, question_text
from ai_os_diffusion.cli.terminal.interruption import deferred
from ai_os_diffusion.cli.terminal.output import (
    confirm,
    note,
    show_json,
    show_line,
    show_row,
    show_table,
    size_text,
)
from ai_os_diffusion.cli.terminal.progress import ProgressBar

if TYPE_CHECKING:
    from ai_os_diffusion.config import Config
    from ai_os_diffusion.contracts import Message
    from ai_os_diffusion.evolution import LoRACard, LoRAConfig, SkillTest

__all__ = ["app"]

app = new_app()
skills = new_app(help="List, show, ask and remove the skills that were learned.")
app.add_typer(skills, name="skills")

SkillName = Annotated[str, typer.Argument(metavar="NAME", parser=values.name, help="Of the skill.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A decoder: a name or folder.", autocompletion=model_names),
]
Learner = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A decoder; or an encoder, which learns to find.", autocompletion=model_names
    ),
]


class SkillMode(str, Enum):
    """How the model writes."""

    AR = "ar"
    DIFFUSION = "diffusion"


Mode = Annotated[
    SkillMode,
    typer.Option("--mode", help="How it writes: token by token, or by diffusion, as smollm2-diffusion can."),
]
_ASKED = 40
"""Questions of the training that are asked again to show what was learned."""

_PATIENCE = 5
"""Epochs, where wordings are given that say when to stop."""


@app.command()
def learn(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(parser=values.path, help="Questions and answers: .jsonl, .json or .csv with q and a."),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", parser=values.name, help="Of the skill, by default that of the file."),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", parser=values.path, help="Other wordings, by which it is judged."),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option("--validation", parser=values.path, help="Other wordings, which say when to stop."),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Keep it only if it helps, and harms nothing elsewhere.")
    ] = True,
    model: Learner = None,
    mode: Mode = SkillMode.AR,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="How often each pair is shown: 30; to an encoder 3."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option("--patience", min=1, help="Epochs without a gain on other wordings until it stops."),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Of the factors: how much fits in.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", parser=values.path, help="Draw the losses: a file, .svg, .png or .html."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Learn a skill from questions and answers, on this machine.

    The model stays as it is: what was learned is a small file, used for questions like those it was learned
    from, and kept if it answers other wordings of them and changes nothing elsewhere. Ctrl-C breaks off; the
    same command goes on. An encoder learns which texts its queries are to find, and is not judged by a gate.
    """
    from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPairs, SkillTest
    from ai_os_diffusion.runtime import open_runtime
    from ai_os_diffusion.utils.loss_picture import check_picture

    settings: Settings = ctx.obj
    config = _with_decoder(settings, model)
    if plot is not None:
        check_picture(plot)
    patience = patience or (0 if validation is None else _PATIENCE)
    own = LoRAConfig(rank=rank, seed=seed, patience=patience)
    objective = None if mode is SkillMode.AR else mode.value
    if model is not None and _is_encoder(model, config):
        parts = {"as learned": file} if test is None else {"as learned": file, "other pairs": test}
        how = {"name": name or file.stem, "epochs": epochs or 3, "picture": plot}
        _learn_pairs(parts, own, objective, config, how, quiet, as_json)
        return
    pairs = QAPairs.read(file)
    held_out = pairs.in_other_words(_ASKED, seed) if test is None else QAPairs.read(test).pairs
    wordings = () if validation is None else QAPairs.read(validation).pairs
    asked = {"as learned": pairs.pairs[:_ASKED], "other wordings": held_out}
    with open_runtime(config) as runtime:
        engine = runtime.decoder
        judges = runtime.skills.gate(mode.value) if gate else None
        trainer = LoRATrainer(engine, config=own, folder=config.skills_dir, objective=objective)
        with _learning(quiet) as told:
            card = trainer.train_qa(
                pairs,
                name or file.stem,
                epochs=epochs or 30,
                held_out=held_out,
                validation=wordings,
                gate=judges,
                picture=plot,
                **told,
            )
        # The model is what it was: asked now, nothing was computed for pairs that cannot be learned.
        before = {what: SkillTest.of(engine, those, mode.value) for what, those in asked.items()}
        with engine.using(card):
            after = {what: SkillTest.of(engine, those, mode.value) for what, those in asked.items()}
    if as_json:
        show_json(
            {**_card_dict(card), "asked": {what: _figures(before[what], after[what]) for what in asked}}
        )
        return
    _show_before_and_after(before, after)
    show_row((card.name, size_text(card.path.stat().st_size), card.path))


@skills.callback(invoke_without_command=True)
def list_all(ctx: typer.Context, as_json: Json = False) -> None:
    """List the skills."""
    if ctx.invoked_subcommand is not None:
        return
    from ai_os_diffusion.evolution import list_skills

    settings: Settings = ctx.obj
    found = list_skills(settings.config().skills_dir)
    if as_json:
        show_json([_card_dict(card) for card in found])
        return
    rows = [
        (
            card.name,
            card.description.base.name,
            str(card.description.metrics.get("pairs", "-")),
            str(card.description.rank),
            size_text(card.path.stat().st_size),
        )
        for card in found
    ]
    if rows:
        show_table(["name", "base", "questions", "rank", "size"], rows, right=["questions", "rank", "size"])
    else:
        note("no skills yet: aios learn FILE")


@skills.command()
def show(ctx: typer.Context, name: SkillName, as_json: Json = False) -> None:
    """Show what a skill says of itself."""
    from ai_os_diffusion.evolution import find_skill

    settings: Settings = ctx.obj
    about = _card_dict(find_skill(name, settings.config().skills_dir))
    if as_json:
        show_json(about)
        return
    for key, value in about.items():
        show_row((key, value))


@skills.command()
def ask(
    ctx: typer.Context,
    question: Question,
    name: Annotated[
        str | None,
        typer.Option("--skill", parser=values.name, help="A skill; else the one it belongs to, if any."),
    ] = None,
    model: Model = None,
    mode: Mode = SkillMode.AR,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=4096, help="Length at most.")] = 64,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Ask the model with the skill that a question belongs to, without memory."""
    from ai_os_diffusion.evolution import Route, find_skill
    from ai_os_diffusion.runtime import open_runtime

    settings: Settings = ctx.obj
    config = _with_decoder(settings, model)
    card = None if name is None else find_skill(name, config.skills_dir)
    text, said = question_text(question), ""
    with open_runtime(config) as runtime:
        engine = runtime.decoder
        chosen = runtime.skills.using(text, mode.value) if card is None else engine.using(card)
        with chosen as found:
            if mode is SkillMode.DIFFUSION:
                said = str(engine.diffuse(text, max_tokens=max_tokens)).strip()
            else:
                turn: Message = {"role": "user", "content": text}
                said = str(engine.generate(messages=[turn], max_tokens=max_tokens)).strip()
    route = found if isinstance(found, Route) else None
    skill = card if route is None else route.skill
    used = None if skill is None else skill.name
    if as_json:
        told = {"question": text, "answer": said, "skill": used}
        why = {name: getattr(route, name, None) for name in ("similarity", "threshold", "example")}
        show_json(told | {name: round(it, 4) if isinstance(it, float) else it for name, it in why.items()})
        return
    show_line(said)
    if route is not None and route.example:
        near = f"nearest to {route.example!r}, {route.similarity:.2f} of {route.threshold:.2f} needed"
        note(f"skill {used}: {near}" if used else f"no skill: {near}", quiet=quiet)


@skills.command()
def rm(
    ctx: typer.Context, name: SkillName, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Remove a skill, with the versions before."""
    from ai_os_diffusion.evolution import Decision, DecisionLog, remove_skill
    from ai_os_diffusion.evolution.skills import skill_files

    settings: Settings = ctx.obj
    folder = settings.config().skills_dir
    freed = sum(path.stat().st_size for path in skill_files(name, folder))
    if not dry_run:
        if not yes:
            confirm(f"Remove {name}?", as_json=as_json)
        remove_skill(name, folder)
        DecisionLog(folder).append(Decision(name, "removed"))
    if as_json:
        show_json({"removed": [name], "size_bytes": freed, "dry_run": dry_run})
    else:
        show_line(f"{'would free' if dry_run else 'freed'} {size_text(freed)}")


def _with_decoder(settings: Settings, model: str | None) -> Config:
    config = settings.config()
    return config if model is None else replace(config, model=replace(config.model, decoder=model))


def _is_encoder(model: str, config: Config) -> bool:
    from ai_os_diffusion.models.local_models import resolve_model
    from ai_os_diffusion.models.metadata import ModelMetadata

    folder = resolve_model(model, models_dir=config.models_dir)
    return not ModelMetadata.from_folder(folder).is_decoder


def _learn_pairs(
    files: dict[str, Path],
    own: LoRAConfig,
    objective: str | None,
    config: Config,
    how: dict[str, Any],
    quiet: bool,
    as_json: bool,
) -> None:
    """What an encoder learns from the first file; `how` is what `train_pairs` takes."""
    from ai_os_diffusion.evolution import LoRATrainer, TextPairs
    from ai_os_diffusion.runtime import open_runtime

    parts = {what: TextPairs.read(file) for what, file in files.items()}
    with open_runtime(config) as runtime:
        engine = runtime.decoder
        trainer = LoRATrainer(engine, config=own, folder=config.skills_dir, objective=objective)
        with _learning(quiet) as told:
            card = trainer.train_pairs(parts["as learned"], **how, **told)
        before = {what: pairs.found_by(engine) for what, pairs in parts.items()}
        with engine.using(card):
            after = {what: pairs.found_by(engine) for what, pairs in parts.items()}
    if as_json:
        figures = {
            what: {"queries": len(pairs), "found_before": before[what], "found_after": after[what]}
            for what, pairs in parts.items()
        }
        show_json({**_card_dict(card), "asked": figures})
        return
    rows = [
        (what, str(len(pairs)), f"{before[what]:.0%}", f"{after[what]:.0%}") for what, pairs in parts.items()
    ]
    show_table(["found first", "queries", "before", "after"], rows, right=["queries", "before", "after"])
    show_row((card.name, size_text(card.path.stat().st_size), card.path))


@contextmanager
def _learning(quiet: bool) -> Iterator[dict[str, Any]]:
    """A progress bar, and Ctrl-C that ends a training with its step: what a training is told of them."""
    from ai_os_diffusion.utils.errors import TrainingError

    with deferred() as stop, ProgressBar(unit="steps", quiet=quiet) as bar:

        def tell(line: dict[str, Any]) -> None:
            if "anchor_texts" in line:
                bar("preparing", line["anchor_texts"], line["of"])
            else:
                bar("learning", line["step"], line["steps"], f"loss {line['loss']:.3f}")

        try:
            yield {"tell": tell, "is_stopped": lambda: stop.asked}
        except TrainingError as error:
            if not stop.asked:
                raise
            note(str(error), quiet=quiet)
            raise KeyboardInterrupt from None


def _show_before_and_after(before: dict[str, SkillTest], after: dict[str, SkillTest]) -> None:
    figures = ["questions", "right before", "right after", "F1 before", "F1 after"]
    rows = [
        (
            what,
            str(len(test.pairs)),
            *(f"{share:.0%}" for share in (test.exact_match, after[what].exact_match)),
            *(f"{share:.2f}" for share in (test.f1, after[what].f1)),
        )
        for what, test in before.items()
    ]
    show_table(["asked", *figures], rows, right=figures)


def _figures(before: SkillTest, after: SkillTest) -> dict[str, Any]:
    return {
        "questions": len(before.pairs),
        "right_before": round(before.exact_match, 4),
        "right_after": round(after.exact_match, 4),
        "f1_before": round(before.f1, 4),
        "f1_after": round(after.f1, 4),
    }


def _card_dict(card: LoRACard) -> dict[str, Any]:
    about = card.description
    return {
        "name": card.name,
        "path": str(card.path),
        "kind": about.kind,
        "mode": about.mode,
        "base": about.base.name,
        "rank": about.rank,
        "size_bytes": card.path.stat().st_size,
        "metrics": dict(about.metrics),
        "created_at": about.created_at,
    }
