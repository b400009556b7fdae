"""The weighted mean of cards that went on from one another: a model soup (arXiv:2203.05482).

    python blend.py OUT.parquet first.parquet=0.4 second.parquet=0.6

A card that went on from another ends near it, and the mean of both is often better than either. Factors are
averaged one by one, which means nothing for cards that began apart.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ai_os_diffusion.models.cards import Card

BITS = 4


def blend(out: Path, parts: Sequence[tuple[Card, float]], *, bits: int | None = BITS) -> Card:
    """Write the mean of cards, with what the last of them says of itself.

    Args:
        out: the file.
        parts: cards, each with its share.
        bits: of the factors.

    Raises:
        ValueError: the shares do not add up to 1, or the cards differ in names, shapes or scaling.
    """
    total = sum(share for _, share in parts)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares add up to {total:g}, expected 1")
    last = parts[-1][0]
    if any(
        card.shapes != last.shapes or card.description.scaling != last.description.scaling
        for card, _ in parts
    ):
        raise ValueError("the cards have other tensors, of other shapes, or scale them otherwise")
    tensors = ((name, sum(share * card[name] for card, share in parts)) for name in last)
    return Card.write(out, last.description, tensors, bits=bits)


def main() -> None:
    """Write the blend that the command line asks for."""
    out, *parts = sys.argv[1:]
    pairs = (part.rpartition("=") for part in parts)
    blend(Path(out), [(Card(path), float(share)) for path, _, share in pairs])


if __name__ == "__main__":
    main()
