"""`aios generate` and `aios diffuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import model_names
from ai_os_diffusion.cli.failures import UsageError
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Json, Quiet, Settings, question_text
from ai_os_diffusion.cli.terminal.output import (
    ShownAnswer,
    note,
    show_json,
    show_json_line,
    show_line,
    where_text,
)
from ai_os_diffusion.cli.terminal.standard_input import to_text
from ai_os_diffusion.cli.terminal.unmasking import Unmasking
from ai_os_diffusion.utils.errors import IngestError
from ai_os_diffusion.utils.wording import counted

__all__ = ["app"]

app = new_app()

Banned = Annotated[
    list[str] | None, typer.Option("--banned", help="A phrase that must not occur; repeatable.")
]
Required = Annotated[
    list[str] | None, typer.Option("--required", help="A phrase that must occur; repeatable.")
]
Pattern = Annotated[
    str | None, typer.Option("--matches", help="Regular expression that the whole text matches.")
]
Attempts = Annotated[
    int | None, typer.Option("--attempts", min=1, max=16, help="Texts to draw at most until one is as told.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Makes randomness repeatable.")]
Temperature = Annotated[
    float,
    typer.Option(
        "--temperature", min=0, max=5, callback=values.finite, help="Randomness; 0 takes the likeliest."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="A name or folder.", autocompletion=model_names)
]


@app.command()
def generate(
    ctx: typer.Context,
    prompt: Annotated[list[str], typer.Argument(help="A task; - reads it from standard input.")],
    banned: Banned = None,
    required: Required = None,
    matches: Pattern = None,
    schema: Annotated[
        Path | None,
        typer.Option("--schema", parser=values.path, help="JSON schema of the object to write, in a file."),
    ] = None,
    attempts: Attempts = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, max=4096, help="Length of a text at most.")
    ] = 256,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    model: Model = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Let the model write of itself, held to phrases, a pattern or a JSON schema.

    A text that is not as told is drawn again, with what is wrong weighing more; when none is, the command
    fails and says what is wrong with the nearest.
    """
    import json

    settings: Settings = ctx.obj
    held = _held(banned, required, matches, None if schema is None else _form(schema))
    turn: Any = {"role": "user", "content": question_text(prompt)}
    with settings.runtime(model__decoder=model) as runtime:
        written = runtime.decoder.generate(
            messages=[turn],
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            constraints=held,
            attempts=attempts,
        )
    if as_json:
        show_json(
            {
                "text": written.text,
                "value": None if schema is None else json.loads(written),
                "finish_reason": written.finish_reason,
                "attempts": written.attempts,
                "seed": written.seed,
                "prompt_tokens": written.usage.prompt_tokens,
                "completion_tokens": written.usage.completion_tokens,
            }
        )
        return
    ShownAnswer().write(written.text)
    show_line()
    if held:
        note(f"as told in {counted(written.attempts, 'attempt')}", quiet=quiet)


@app.command()
def diffuse(
    ctx: typer.Context,
    prompt: Annotated[
        list[str] | None, typer.Argument(help="A question or task; - reads it from standard input.")
    ] = None,
    context: Annotated[
        list[Path] | None,
        typer.Option("--context", "-c", parser=values.path, help="File with what the answer is found in."),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Find passages in memory.")] = False,
    infill: Annotated[
        str | None, typer.Option("--infill", help="Text with {} for each gap; the rest of it stays.")
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template",
            parser=values.path,
            help="JSON file of names with types, or a JSON schema; the result always fits it.",
        ),
    ] = None,
    max_fill: Annotated[
        int | None, typer.Option("--max-fill", min=1, help="Tokens of a gap or value at most.")
    ] = None,
    min_fill: Annotated[
        int, typer.Option("--min-fill", min=0, help="Tokens of a gap at least; with --max-fill its length.")
    ] = 0,
    max_uncertainty: Annotated[
        float | None,
        typer.Option(
            "--max-uncertainty",
            min=0.0,
            max=1.0,
            help="Leave values of the template empty that are likelier wrong than this.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=1, help="Tokens of a text at most; by default one block."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Passes in all; by default as many as it takes.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="What a pass commits: threshold, low_confidence, ...")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", min=0, max=1, callback=values.finite, help="Confidence that is sure enough."
        ),
    ] = None,
    temperature: Temperature = 0.0,
    guidance: Annotated[
        float,
        typer.Option(
            "--guidance",
            min=0,
            max=20,
            callback=values.finite,
            help="Above 1 holds on to what is given more.",
        ),
    ] = 1.0,
    extractive: Annotated[
        bool, typer.Option("--extractive", help="Hold the answer to words that stand in the context.")
    ] = False,
    cache: Annotated[
        str | None,
        typer.Option("--cache", help="none, prefix or dual: what is kept where all of a text sees all."),
    ] = None,
    banned: Banned = None,
    required: Required = None,
    matches: Pattern = None,
    attempts: Attempts = None,
    seed: Seed = None,
    model: Model = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write by diffusion: an answer from a file, gaps of a text, or the values of a template.

    All positions are open at first, and each pass fills those that the model is sure of; on a terminal you
    see it, coloured by confidence. --json writes a line for each pass, then the result. A text that is held
    to phrases or a pattern may be drawn again, and is shown when it is whole.
    """
    settings: Settings = ctx.obj
    asked = _prompt(prompt)
    if asked is None and infill is None and template is None:
        raise UsageError("expected a question or task, --infill TEXT or --template FILE")
    if memory and asked is None:
        raise UsageError("--memory looks for passages by a question; give one")
    given: dict[str, Any] = {
        "context": [_text(path) for path in context] if context else None,
        "infill": None if infill is None else to_text(infill),
        "template": None if template is None else _form(template),
    }
    options: dict[str, Any] = {
        "max_fill": max_fill,
        "min_fill": min_fill,
        "max_uncertainty": max_uncertainty,
        "max_tokens": max_tokens,
        "num_steps": steps,
        "sampler": sampler,
        "threshold": threshold,
        "temperature": temperature,
        "guidance_scale": guidance,
        "extractive": extractive,
        "cache": cache,
        "seed": seed,
        "constraints": _held(banned, required, matches),
        "attempts": attempts,
    }
    with settings.runtime(model__diffusion=model) as runtime:
        if options["constraints"]:
            written = runtime.diffuser.diffuse(asked, memory_guided=memory, **given, **options)
        else:
            stream = runtime.diffuser.diffuse_stream(asked, memory_guided=memory, **given, **options)
            with Unmasking(quiet=quiet or as_json) as shown:
                for step in stream:
                    shown.show(step)
                    if as_json:
                        show_json_line(step.to_dict())
            written = stream.diffusion
    found: Any = written.memories
    if as_json:
        memories = [hit.to_dict() for hit in found]
        show_json_line({**written.to_dict(), "memories": memories})
        return
    ShownAnswer().write(written.text)
    show_line()
    for hit in found:
        note(f"from {where_text(hit.source, hit.line)}", quiet=quiet)
    doubt = "" if written.uncertainty is None else f", sure to {1 - written.uncertainty:.0%}"
    passes = "one pass" if written.steps == 1 else f"{written.steps} passes"
    note(f"{passes} in {sum(written.timings) * 1000:.0f} ms{doubt}", quiet=quiet)


def _held(
    banned: list[str] | None, required: list[str] | None, pattern: str | None, schema: Any = None
) -> list[Any] | None:
    """What a text is held to; None where that is nothing."""
    if not (banned or required or pattern is not None or schema is not None):
        return None
    from ai_os_diffusion.inference.constraints import Banned, FollowsSchema, Matches, Required

    found: list[Any] = [Banned(*map(to_text, banned))] if banned else []
    found += [Required(*map(to_text, required))] if required else []
    found += [] if pattern is None else [Matches(to_text(pattern))]
    return found if schema is None else [*found, FollowsSchema(schema)]


def _prompt(words: list[str] | None) -> str | None:
    return question_text(words) if words else None


def _text(path: Path) -> str:
    """The text of a file.

    Raises:
        IngestError: it is not text.
    """
    try:
        return to_text(path.read_bytes())
    except IngestError as error:
        raise IngestError(f"{path}: {error}") from error


def _form(path: Path) -> Any:
    """A template as JSON.

    Raises:
        UsageError: it is none.
    """
    from ai_os_diffusion.utils.files.regular_file import parse_json

    return parse_json(_text(path), str(path), UsageError)
