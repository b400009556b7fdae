"""`aios add` and `aios recall`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
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
    Reader,
    Settings,
    Source,
    TopK,
    question_text,
)
from ai_os_diffusion.cli.terminal.citations import citation_of, nothing_fits, unreadable
from ai_os_diffusion.cli.terminal.output import note, show_json, show_line, show_passage, where_text
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.cli.terminal.standard_input import read_bytes, to_text
from ai_os_diffusion.cli.verbs.add_report import tell_report
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.answers.recall import RecallHit
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
    takes_all: Annotated[bool, typer.Option("--all", help="Also take hidden and generated files.")] = False,
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
    Below a folder, hidden files, node_modules, __pycache__, site-packages, virtual environments, lock
    files and minified code are passed by.
    """
    settings: Settings = ctx.obj
    files = [path for path in paths if str(path) != "-"]
    texts = [_standard_input(name)] if len(files) < len(paths) else []
    with settings.runtime() as runtime, ProgressBar(unit="bytes", quiet=quiet) as bar:

        def tell(state: AddProgress) -> None:
            rate = state.passages / state.seconds if state.seconds else 0.0
            bar(
                "adding",
                state.bytes_done,
                state.bytes_total,
                f"{counted(state.passages, 'passage')}, {rate:.0f}/s",
            )

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
    in_full: Annotated[bool, typer.Option("--full", help="Show passages whole.")] = False,
    reader: Reader = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find what was remembered, with file and line.

    Of long passages the lines that fit the question best are shown, and on a terminal they stand out; --full
    shows all. Passages far less similar than the best are only counted, unless --all or --top asks for them;
    --json holds them always. Ends with code 6, and says how near it came, when memory holds nothing that
    fits.
    """
    settings: Settings = ctx.obj
    condition = condition_of(filters, source)
    text = question_text(question)
    with settings.runtime(model__reader=reader) as runtime:
        found = runtime.recall(text, top_k=top_k, filter=condition, min_similarity=min_similarity)
        found = runtime.with_matches(found)
    if as_json:
        show_json(found.to_dict())
    elif found.abstained:
        note(nothing_fits(found.nearest, found.threshold, filtered=condition is not None))
    else:
        near = found.hits if shows_all or top_k else found.near_hits
        _tell_hits(near, in_full=in_full)
        left_out = len(found.hits) - len(near)
        if left_out:
            note(f"{counted(left_out, 'passage')} far less similar; --all shows more", quiet=quiet)
    if found.abstained:
        raise typer.Exit(ExitCode.ABSTAINED)


def _standard_input(name: str | None) -> tuple[str, bytes]:
    data = read_bytes()
    # Without a name each text is a document of its own, never a new version of the one before.
    return to_text(name or "") or f"stdin-{hashlib.blake2b(data, digest_size=6).hexdigest()}", data


def _tell_hits(hits: Sequence[RecallHit], *, in_full: bool) -> None:
    for number, hit in enumerate(hits, 1):
        if number > 1:
            show_line()
        show_line(f"{hit.similarity:.3f}  ", citation_of(hit), _headings(hit))
        start, end = (0, len(hit.text)) if in_full else _window(hit)
        _tell_left_out(hit.text[:start])
        match = hit.match or (start, start)
        show_passage(hit.text[start:end], (match[0] - start, min(match[1], end) - start))
        _tell_left_out(hit.text[end:])
        if hit.also:
            places = [where_text(place.source, place.line) + unreadable(place) for place in hit.also]
            more = f" and {counted(len(places) - _PLACES, 'more place')}" if len(places) > _PLACES else ""
            show_line(f"  also in {', '.join(places[:_PLACES])}{more}")


def _tell_left_out(text: str) -> None:
    """Say how many lines are not shown."""
    if text.strip():
        show_line(f"  … {counted(text.strip().count(chr(10)) + 1, 'more line')}")


def _headings(hit: RecallHit) -> str:
    return f"  {' > '.join(hit.headings)}" if hit.headings else ""


def _window(hit: RecallHit, lines: int = 6) -> tuple[int, int]:
    """Begin and end of what is shown of a passage: whole lines, around those that fit the question."""
    ends = [at for at, letter in enumerate(hit.text) if letter == "\n"] + [len(hit.text)]
    starts = [0, *(end + 1 for end in ends[:-1])]
    if len(ends) <= lines:
        return 0, len(hit.text)
    place = hit.match[0] if hit.match else 0
    first = max(index for index, begin in enumerate(starts) if begin <= place)
    last = min(len(ends) - 1, first + lines - 1)
    first = max(0, last - lines + 1)
    return starts[first], ends[last]
