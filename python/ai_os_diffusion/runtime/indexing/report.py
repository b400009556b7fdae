"""What an `add` did, document by document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ai_os_diffusion.ingestion import Remark, Skipped

__all__ = ["AddProgress", "AddReport", "DocumentReport", "Outcome"]

Outcome = Literal["added", "changed", "unchanged", "empty", "skipped", "failed"]
"""What became of a document:

- `added`, `changed`: its passages are in the store, in place of those of an earlier state;
- `unchanged`: they were there;
- `empty`: it was read and holds no text;
- `skipped`: it cannot be read, and the reason says why;
- `failed`: it was read, but what came of it cannot be kept.
"""


@dataclass(frozen=True, slots=True)
class DocumentReport:
    """What became of one document.

    Attributes:
        path: its path or name, as it can be shown.
        outcome: in one word.
        passages: how many it has; 0 where that was not found out.
        reason: why it was not taken; "" when it was.
        remarks: what of it was not taken.
        kept: passages of an earlier state that stay in the store, marked as not readable any more.
    """

    path: str
    outcome: Outcome
    passages: int = 0
    reason: str = ""
    remarks: tuple[Remark, ...] = ()
    kept: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "path": self.path,
            "outcome": self.outcome,
            "passages": self.passages,
            "reason": self.reason,
            "remarks": [
                {
                    "kind": remark.kind,
                    "reason": remark.reason,
                    "lines": [list(span) for span in remark.lines],
                    "pages": [list(span) for span in remark.pages],
                }
                for remark in self.remarks
            ],
            "kept": self.kept,
        }


@dataclass(repr=False)
class AddReport:
    """What an `add` did. Only what is committed is counted.

    Attributes:
        documents: what became of each, in the order they were named.
        passages: passages by outcome: "added" (embedded and stored), "updated" (only the metadata
            changed), "removed", "merged" (held already, from another place).
        ignored: files and folders that were passed by: by their names, or as `.gitignore` says.
        fallback_encodings: files that are not UTF-8, by the encoding found.
        vanished: documents in the store whose file is gone; removed when pruning, else marked as that.
        bytes_read: size of the documents read.
        seconds: time taken.
        dry_run: nothing was embedded or changed.
    """

    documents: list[DocumentReport] = field(default_factory=list)
    passages: dict[str, int] = field(
        default_factory=lambda: {"added": 0, "updated": 0, "removed": 0, "merged": 0}
    )
    ignored: list[Skipped] = field(default_factory=list)
    fallback_encodings: dict[str, int] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    bytes_read: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    def __repr__(self) -> str:
        files = ", ".join(f"{count} {outcome}" for outcome, count in self.files.items() if count)
        passages = ", ".join(f"{count} {what}" for what, count in self.passages.items() if count)
        dry = "; dry run" if self.dry_run else ""
        return f"AddReport(documents: {files or 'none'}; passages: {passages or 'none'}{dry})"

    @property
    def files(self) -> dict[str, int]:
        """Documents by outcome."""
        counts = dict.fromkeys(("added", "changed", "unchanged", "empty", "skipped", "failed"), 0)
        for document in self.documents:
            counts[document.outcome] += 1
        return counts

    @property
    def not_taken(self) -> list[DocumentReport]:
        """The documents that were skipped or failed."""
        return [document for document in self.documents if document.outcome in ("skipped", "failed")]

    @property
    def has_taken_nothing(self) -> bool:
        """Whether there was something to take, and all of it was passed by."""
        return bool(self.documents or self.ignored) and len(self.not_taken) == len(self.documents)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "files": self.files,
            "passages": self.passages,
            "documents": [document.to_dict() for document in self.documents],
            "skipped": [{"path": document.path, "reason": document.reason} for document in self.not_taken],
            "ignored": [{"path": item.path, "reason": item.reason} for item in self.ignored],
            "fallback_encodings": self.fallback_encodings,
            "vanished": self.vanished,
            "bytes_read": self.bytes_read,
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class AddProgress:
    """How far an `add` is.

    Attributes:
        bytes_done: bytes of the documents that are dealt with, by share of their passages.
        bytes_total: bytes of all of them.
        passages: passages embedded so far.
        seconds: time taken so far.
        document: the one that is being read; "" between two.
    """

    bytes_done: int
    bytes_total: int
    passages: int
    seconds: float
    document: str = ""
