"""`aios ask` and `aios chat`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.failures import ExitCode
from ai_os_diffusion.cli.filters import condition_of
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import (
    Filter,
    Json,
    MinSimilarity,
    Question,
    Quiet,
    Reader,
    Settings,
    Source,
    TopK,
    question_text,
)
from ai_os_diffusion.cli.terminal.citations import note_index, show_citations, why_abstained
from ai_os_diffusion.cli.terminal.output import ShownAnswer, note, show_json, show_line

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer

__all__ = ["app"]

app = new_app()

MaxTokens = Annotated[
    int, typer.Option("--max-tokens", min=1, max=4096, help="Length of what a model writes at most.")
]

Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help="Let a model say it: ar in a sentence, diffusion in a few words from whole passages. By default "
        "the passages are quoted.",
    ),
]


@app.command()
def ask(
    ctx: typer.Context,
    question: Question,
    top_k: TopK = None,
    filters: Filter = None,
    source: Source = None,
    min_similarity: MinSimilarity = None,
    max_tokens: MaxTokens = 96,
    mode: Mode = None,
    reader: Reader = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer a question from memory, with citations.

    The encoder's reader points at the answer in the passages that are nearest, and tells how likely it is
    right; several answers are shown where sources differ. Ends with code 6, and says why, when nothing in
    memory answers. Without a reader card the nearest sentence or block is quoted, unread.
    """
    from ai_os_diffusion.answers.answer import Answer

    settings: Settings = ctx.obj
    condition = condition_of(filters, source)
    shown = ShownAnswer()
    with settings.runtime(model__reader=reader) as runtime:
        events = runtime.ask_stream(
            question_text(question),
            top_k=top_k,
            filter=condition,
            min_similarity=min_similarity,
            max_tokens=max_tokens,
            mode=mode,
        )
        for event in events:
            if isinstance(event, Answer):
                runtime.skills.consider(event)
                _end(event, filtered=condition is not None, quiet=quiet, as_json=as_json)
            elif not as_json:
                shown.write(event)


@app.command()
def chat(
    ctx: typer.Context,
    from_memory: Annotated[
        bool,
        typer.Option("--memory/--no-memory", help="Answer from memory, or let the model speak of itself."),
    ] = True,
    max_tokens: MaxTokens = 256,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            min=0,
            max=5,
            callback=values.finite,
            help="Randomness; 0 always takes the likeliest word.",
        ),
    ] = 0.0,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes randomness repeatable.")] = None,
    reader: Reader = None,
    as_json: Json = False,
) -> None:
    """Talk with the model, from memory or without.

    Ctrl-C stops an answer, Ctrl-D ends; /correct ANSWER tells the right answer to the last message. What
    memory holds is answered from it, with citations; what it does not hold is declined. A message may refer
    to the question and answer before it. Without memory the model speaks of itself, marked as not from your
    documents. One message a line; through a pipe, one that cannot be answered is reported, the next one is
    taken, and the exit code tells of it. --json writes a line for each.
    """
    from ai_os_diffusion.cli.verbs.chat_loop import ChatLoop
    from ai_os_diffusion.runtime.conversation import Conversation

    settings: Settings = ctx.obj
    sampling: dict[str, float | int] = {"temperature": temperature}
    if seed is not None:
        sampling["seed"] = seed
    with settings.runtime(model__reader=reader) as runtime:
        conversation = Conversation(runtime, from_memory=from_memory, max_tokens=max_tokens, **sampling)
        if from_memory and not conversation.from_memory:
            note("there is no memory yet, so answers come from the model alone; aios add PATH makes one")
        code = ChatLoop(conversation, as_json=as_json).run()
    raise typer.Exit(code)


def _end(answer: Answer, *, filtered: bool, quiet: bool, as_json: bool) -> None:
    note_index(answer, quiet=quiet or as_json)
    if as_json:
        show_json(answer.to_dict())
    elif not answer.abstained:
        show_line()
        if not quiet:
            show_citations(answer)
    else:
        note(why_abstained(answer, filtered=filtered))
    if answer.abstained:
        raise typer.Exit(ExitCode.ABSTAINED)
