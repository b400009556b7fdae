"""`aios add` and `aios recall`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.failures import ExitCode
from ai_os_diffusion.cli.filters import condition_of
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import (
    DryRun,
    Filter,
    Json,
    MinSimilarity,
    Question,
    Quiet,
    Settings,
    Source,
    TopK,
    question_text,
)
from ai_os_diffusion.cli.terminal.citations import (
    citation_of,
    note_index,
    nothing_fits,
    titles_above,
    unreadable,
)
from ai_os_diffusion.cli.terminal.matches import Line, Matches
from ai_os_diffusion.cli.terminal.output import note, show_json, show_line, show_passage, where_text
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.cli.terminal.standard_input import read_bytes, to_text
from ai_os_diffusion.cli.terminal.wrapping import width_of
from ai_os_diffusion.cli.verbs.add_report import tell_report
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.answers.recall import RecallHit
    from ai_os_diffusion.runtime import Runtime
    from ai_os_diffusion.runtime.indexing import AddProgress

__all__ = ["app"]

# Places of one passage that are named; --json names all.
_PLACES = 5

app = new_app()


@app.command()
def add(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(parser=values.path, help="Files and folders; - reads standard input.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of what is read from standard input, such as notes.md.")
    ] = None,
    takes_all: Annotated[
        bool, typer.Option("--all", help="Also take hidden, generated, ignored files.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Forget documents whose file is gone.")] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remember documents: text, Markdown, HTML, PDF, EPUB, DOCX, ODT, mail, code, tables, notebooks.

    Documents are cut along their structure into passages that know their file and lines. Running it
    again costs only the reading: what is unchanged is skipped, what changed is replaced, and
    passages that stand in several files are kept once. What cannot be read, or not all of it, is named
    with the reason, and holds up nothing else; when nothing named could be taken, the exit code is 1.
    What memory holds of a file that cannot be read any more is kept, and marked in every citation.
    Below a folder, what .gitignore files say, hidden files, node_modules, __pycache__, site-packages,
    virtual environments, lock files and minified code are passed by.
    """
    settings: Settings = ctx.obj
    files = [path for path in paths if str(path) != "-"]
    texts = [_standard_input(name)] if len(files) < len(paths) else []
    with settings.runtime() as runtime, ProgressBar(unit="bytes", quiet=quiet) as bar:

        def tell(state: AddProgress) -> None:
            rate = state.passages / state.seconds if state.seconds else 0.0
            told = f"{counted(state.passages, 'passage')}, {rate:.0f}/s  {where_text(state.document)}"
            bar("adding", state.bytes_done, state.bytes_total, told)

        try:
            report = runtime.add(
                files, texts=texts, takes_all=takes_all, prune=prune, dry_run=dry_run, progress=tell
            )
        except KeyboardInterrupt:
            note(
                "interrupted: what was committed is kept; run the same command again to go on", quiet=as_json
            )
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if as_json:
        show_json(report.to_dict())
    else:
        tell_report(report, quiet=quiet, pruned=prune)
    if report.has_taken_nothing:
        raise typer.Exit(ExitCode.FAILURE)


@app.command()
def recall(
    ctx: typer.Context,
    question: Question,
    top_k: TopK = None,
    filters: Filter = None,
    source: Source = None,
    min_similarity: MinSimilarity = None,
    shows_all: Annotated[
        bool, typer.Option("--all", help="Also show passages far less similar than the best.")
    ] = False,
    shows_full: Annotated[bool, typer.Option("--full", help="Show all lines of long passages.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find what was remembered, with file and line.

    Words of the question stand out on a terminal. Of a passage of many lines those are shown that answer, as
    the reader points, and that say most on the question, with what is around them; --full shows all.
    Passages far less similar than the best are only counted, unless --all or --top asks for them; --json
    holds them always, and whole. Ends with code 6, and says how near it came, when memory holds nothing that
    fits.
    """
    settings: Settings = ctx.obj
    condition = condition_of(filters, source)
    text = question_text(question)
    with settings.runtime() as runtime:
        found = runtime.recall(text, top_k=top_k, filter=condition, min_similarity=min_similarity)
        near = found.hits if shows_all or top_k else found.near_hits
        shown = [] if as_json else _shown(runtime, found.question, near, shows_full=shows_full)
    note_index(found, quiet=quiet or as_json)
    if as_json:
        show_json(found.to_dict())
    elif found.abstained:
        note(nothing_fits(found, filtered=condition is not None))
    else:
        _tell_hits(near, shown)
        left_out = len(found.hits) - len(near)
        if left_out:
            note(f"{counted(left_out, 'passage')} far less similar; --all shows more", quiet=quiet)
    if found.abstained:
        raise typer.Exit(ExitCode.ABSTAINED)


def _standard_input(name: str | None) -> tuple[str, bytes]:
    data = read_bytes()
    # Without a name each text is a document of its own, never a new version of the one before.
    return to_text(name or "") or f"stdin-{hashlib.blake2b(data, digest_size=6).hexdigest()}", data


def _shown(
    runtime: Runtime, question: str, hits: Sequence[RecallHit], *, shows_full: bool
) -> list[list[Line | int]]:
    """The lines of each passage that are shown; only what would be folded is read for where it answers."""
    # The indentation that all lines share would only break them.
    texts = {hit.memory_id: dedent(hit.text) for hit in hits}
    matches = Matches(question, texts.values())
    if shows_full:
        return [[*matches.lines(text)] for text in texts.values()]
    width = width_of(sys.stdout)
    long = [hit for hit in hits if matches.is_long(texts[hit.memory_id], width)]
    answering: dict[str, range] = {}
    if long:
        from ai_os_diffusion.runtime.answering import Answering

        for hit, place in zip(long, Answering(runtime).places(question, long), strict=True):
            first, last = (hit.text.count("\n", 0, at) for at in place or (0, 0))
            answering[hit.memory_id] = range(first, last + 1 if place else first)
    return [matches.excerpt(text, width, answering.get(key, ())) for key, text in texts.items()]


def _tell_hits(hits: Sequence[RecallHit], shown: Sequence[Sequence[Line | int]]) -> None:
    for number, (hit, lines) in enumerate(zip(hits, shown, strict=True), 1):
        if number > 1:
            show_line()
        show_line(f"{hit.similarity:.3f}  ", citation_of(hit), titles_above(hit))
        for line in lines:
            if isinstance(line, int):
                show_line(f"  … {counted(line, 'more line')}")
            else:
                show_passage([line])
        if hit.also:
            places = [where_text(place.source, place.line) + unreadable(place) for place in hit.also]
            more = f" and {counted(len(places) - _PLACES, 'more place')}" if len(places) > _PLACES else ""
            show_line(f"  also in {', '.join(places[:_PLACES])}{more}")
