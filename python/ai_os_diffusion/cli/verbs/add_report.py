"""What `add` did, for people: one line of what was done, then file by file what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.output import note, show_line, size_text, where_text
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.runtime.indexing import AddReport, DocumentReport

__all__ = ["tell_report"]

# Documents that are told of by name; --json names all.
_TOLD = 10


def tell_report(report: AddReport, *, quiet: bool, pruned: bool) -> None:
    """Write the report.

    Args:
        report: what was done.
        quiet: only the line.
        pruned: documents whose file is gone were removed.
    """
    passages = report.passages
    told = [f"{counted(passages['added'], 'passage')} {'to add' if report.dry_run else 'added'}"]
    told += [f"{passages[name]} {name}" for name in ("updated", "removed", "merged") if passages[name]]
    files = ", ".join(f"{count} {name}" for name, count in report.files.items() if count) or "none"
    show_line(f"{', '.join(told)}; files: {files}; {size_text(report.bytes_read)} in {report.seconds:.1f} s")
    if quiet:
        return
    for outcome in ("added", "changed"):
        taken = [document for document in report.documents if document.outcome == outcome]
        _tell_each(f"to be {outcome}:" if report.dry_run else outcome, list(map(_taken, taken)))
    empty = [document for document in report.documents if document.outcome == "empty"]
    _tell_each("holds no text:", [where_text(document.path) for document in empty])
    for outcome in ("skipped", "failed"):
        passed = [document for document in report.not_taken if document.outcome == outcome]
        _tell_each(outcome, list(map(_not_taken, passed)))
    partly = [document for document in report.documents if document.remarks]
    _tell_each("not all of", [_remarked(document) for document in partly if _has_loss(document)])
    _tell_each("of", [_remarked(document) for document in partly if not _has_loss(document)])
    if report.ignored:
        note(f"passed by {len(report.ignored)} hidden, generated or ignored by git; --all takes them")
    for encoding, count in report.fallback_encodings.items():
        note(f"{counted(count, 'file')} {'was' if count == 1 else 'were'} read as {encoding}")
    if report.vanished and not pruned:
        gone = len(report.vanished)
        has, them = ("has", "it") if gone == 1 else ("have", "them")
        note(f"{counted(gone, 'document')} in memory {has} no file any more; --prune forgets {them}")
    if report.has_taken_nothing:
        note("nothing was taken: all that was named was skipped")


def _tell_each(what: str, lines: list[str]) -> None:
    for line in lines[:_TOLD]:
        note(f"{what} {line}")
    if len(lines) > _TOLD:
        note(f"{what} {len(lines) - _TOLD} more; --json lists them")


def _taken(document: DocumentReport) -> str:
    return f"{where_text(document.path)}: {counted(document.passages, 'passage')}"


def _not_taken(document: DocumentReport) -> str:
    kept = ""
    if document.kept:
        before = counted(document.kept, "passage")
        kept = f"; {before} from before stay in memory, cited as not readable any more"
    return f"{where_text(document.path)}: {document.reason}{kept}"


def _remarked(document: DocumentReport) -> str:
    return f"{where_text(document.path)}: {'; '.join(map(str, document.remarks))}"


def _has_loss(document: DocumentReport) -> bool:
    return any(remark.is_loss for remark in document.remarks)
