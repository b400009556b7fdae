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
    Settings,
    Source,
    TopK,
    question_text,
)
from ai_os_diffusion.cli.output import note, show_json, show_line, show_passage, size_text, where_text
from ai_os_diffusion.cli.progress import ProgressBar
from ai_os_diffusion.cli.standard_input import read_bytes, to_text
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.indexing import AddProgress, AddReport
    from ai_os_diffusion.recall import RecallHit, RecallResult

__all__ = ["app"]

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
    """Remember documents: text, Markdown, HTML, PDF, code, JSON Lines.

    Documents are cut along their structure into passages that know their file and lines. Running it
    again costs only the reading: what is unchanged is skipped, what changed is replaced, and
    passages that stand in several files are kept once. Below a folder, hidden files, node_modules,
    __pycache__, site-packages, virtual environments, lock files and minified code are passed by.
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
        show_json(_report_dict(report))
    else:
        _tell_report(report, quiet=quiet, pruned=prune)


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
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find what was remembered, with file and line.

    Passages far less similar than the best are only counted, unless --all or --top asks for them; --json
    holds them always. Ends with code 6, and says how near it came, when memory holds nothing that fits.
    """
    settings: Settings = ctx.obj
    condition = condition_of(filters, source)
    text = question_text(question)
    with settings.runtime() as runtime:
        found = runtime.recall(text, top_k=top_k, filter=condition, min_similarity=min_similarity)
    if as_json:
        show_json(found.to_dict())
    elif found.abstained:
        note(nothing_fits(found.nearest, found.threshold, filtered=condition is not None))
    else:
        near = found.hits if shows_all or top_k else near_hits(found)
        _tell_hits(near)
        left_out = len(found.hits) - len(near)
        if left_out:
            note(f"{counted(left_out, 'passage')} far less similar; --all shows more", quiet=quiet)
    if found.abstained:
        raise typer.Exit(ExitCode.ABSTAINED)


def nothing_fits(nearest: float | None, threshold: float | None, *, filtered: bool) -> str:
    """Say why nothing was answered."""
    if nearest is None and filtered:
        return "no memory meets the filter; aios memory list --json shows what metadata there is"
    if nearest is None:
        return "memory holds nothing here; add documents with: aios add PATH"
    return (
        f"nothing in memory fits: the nearest passage reaches {nearest:.2f}, expected {threshold:.2f} or more"
    )


def near_hits(found: RecallResult) -> tuple[RecallHit, ...]:
    """The hits worth reading: those that would fit by themselves or are at least half as similar as the best.

    Search always fills its number; a store may hold one passage on a question and nothing else.
    """
    enough = (found.nearest or 0.0) / 2
    if found.threshold is not None:
        enough = min(enough, found.threshold)
    return tuple(hit for number, hit in enumerate(found.hits) if not number or hit.similarity >= enough)


def _standard_input(name: str | None) -> tuple[str, bytes]:
    data = read_bytes()
    # Without a name each text is a document of its own, never a new version of the one before.
    return to_text(name or "") or f"stdin-{hashlib.blake2b(data, digest_size=6).hexdigest()}", data


def _tell_hits(hits: Sequence[RecallHit]) -> None:
    for number, hit in enumerate(hits, 1):
        if number > 1:
            show_line()
        show_line(f"{hit.similarity:.3f}  ", citation_of(hit), _headings(hit))
        rows, left_out = _shortened(hit.text)
        show_passage("\n".join(rows))
        if left_out:
            show_line(f"  … {counted(left_out, 'more line')}")
        if hit.also:
            places = ", ".join(where_text(source, line) for source, line in hit.also)
            show_line(f"  also in {places}")


def citation_of(hit: RecallHit) -> str:
    """Where a hit stands: "file:line", with the page for a PDF, or the memory's id."""
    if not hit.source:
        return hit.memory_id
    page = f" page {hit.page}" if hit.page else ""
    return where_text(hit.source, hit.line) + page


def _headings(hit: RecallHit) -> str:
    return f"  {' > '.join(hit.headings)}" if hit.headings else ""


def _shortened(text: str, lines: int = 6) -> tuple[list[str], int]:
    """The first rows of a text, and how many more there are."""
    rows = [row.rstrip() for row in text.split("\n")]
    kept = rows if len(rows) <= lines else rows[: lines - 1]
    return kept, len(rows) - len(kept)


def _report_dict(report: AddReport) -> dict[str, object]:
    return {
        "files": report.files,
        "passages": report.passages,
        "skipped": [{"path": item.path, "reason": item.reason} for item in report.skipped],
        "refused_lines": report.refused_lines,
        "fallback_encodings": report.fallback_encodings,
        "vanished": report.vanished,
        "bytes_read": report.bytes_read,
        "seconds": round(report.seconds, 3),
        "dry_run": report.dry_run,
    }


def _tell_report(report: AddReport, *, quiet: bool, pruned: bool) -> None:
    """One line of what was done, then what needs attention."""
    passages = report.passages
    told = [f"{counted(passages['added'], 'passage')} {'to add' if report.dry_run else 'added'}"]
    told += [f"{passages[name]} {name}" for name in ("updated", "removed", "merged") if passages[name]]
    files = ", ".join(f"{count} {name}" for name, count in report.files.items() if count) or "none"
    show_line(f"{', '.join(told)}; files: {files}; {size_text(report.bytes_read)} in {report.seconds:.1f} s")
    if quiet:
        return
    named = [item for item in report.skipped if item.reason != "ignored by name"]
    for item in named[:10]:
        note(f"skipped {where_text(item.path)}: {item.reason}")
    if len(named) > 10:
        note(f"skipped {len(named) - 10} more; --json lists them")
    if len(named) < len(report.skipped):
        note(f"passed by {len(report.skipped) - len(named)} hidden or generated; --all takes them")
    for path, lines in list(report.refused_lines.items())[:10]:
        first = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
        note(f"skipped {counted(len(lines), 'line')} of {where_text(path)}, not JSON: {first}")
    for encoding, count in report.fallback_encodings.items():
        note(f"{counted(count, 'file')} {'was' if count == 1 else 'were'} read as {encoding}")
    if report.vanished and not pruned:
        gone = len(report.vanished)
        has, them = ("has", "it") if gone == 1 else ("have", "them")
        note(f"{counted(gone, 'document')} in memory {has} no file any more; --prune forgets {them}")
