"""What was read of one file within a package, which its passages and remarks name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ai_os_diffusion.ingestion.document import Block, Remark, RemarkKind
from ai_os_diffusion.ingestion.opaque import without_opaque

__all__ = ["of_part", "with_few_remarks"]

# Files within that are named one by one.
_MAX_NAMED = 32


def of_part(
    part: str, blocks: Iterable[Block], remarks: Iterable[Remark], headings: tuple[str, ...] = ()
) -> tuple[list[Block], list[Remark]]:
    """Blocks and remarks of a document within another, whose lines are those of that document.

    Args:
        part: its name, which stands in the metadata of every block as `part`.
        blocks: its blocks.
        remarks: what is not in them.
        headings: titles above all of it.
    """
    # Here, for a line alone does not say of which part it is.
    kept, opaque = without_opaque(blocks)
    # What is replaced need not be in memory any more.
    del blocks
    own = {"part": part}
    below: tuple[str, ...] = ()
    path = headings
    for index, (text, line, end_line, kind, titles, known, columns) in enumerate(kept):
        # Blocks that stand together share what stands above and beside them.
        if titles != below:
            below, path = titles, (*headings, *titles)
        metadata = {**known, **own} if known else own
        kept[index] = Block(text, line, end_line, kind, path, metadata, columns)
    return kept, [replace(remark, reason=f"{part}: {remark.reason}") for remark in (*remarks, *opaque)]


def with_few_remarks(remarks: list[Remark]) -> list[Remark]:
    """Remarks of very many parts: the first as they are, the others together, a kind in one.

    Args:
        remarks: as `of_part` made them.
    """
    kept, rest = remarks[:_MAX_NAMED], remarks[_MAX_NAMED:]
    reasons: dict[RemarkKind, list[str]] = {}
    for remark in rest:
        reasons.setdefault(remark.kind, []).append(remark.reason)
    return kept + [
        Remark(kind, f"{said[0]}; and the like in other files within, {len(said)} times in all")
        for kind, said in reasons.items()
    ]
