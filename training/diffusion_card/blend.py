"""The weighted mean of cards that went on from one another: a model soup (arXiv:2203.05482).

    python blend.py OUT first.safetensors=0.4 second.safetensors=0.6

A card that went on from another ends near it, and the mean of both is often better than either. Factors are
averaged one by one, which means nothing for cards that began apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

from decoder import quantised, restored
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def blended(cards: list[tuple[dict[str, Tensor], float]]) -> dict[str, Tensor]:
    """The mean of cards as `restored` gives them, each with its share.

    Raises:
        ValueError: the shares do not add up to 1, or the cards differ in names or shapes.
    """
    total = sum(share for _, share in cards)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares add up to {total:g}, expected 1")
    shapes = [{name: value.shape for name, value in card.items()} for card, _ in cards]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("the cards have other tensors, or of other shapes")
    return {name: sum(share * card[name] for card, share in cards) for name in shapes[0]}


def main() -> None:
    """Write the blend, with what the last card says of itself."""
    out, *parts = sys.argv[1:]
    pairs = [(Path(path), float(share)) for path, _, share in (part.rpartition("=") for part in parts)]
    cards = [(restored(load_file(path)), share) for path, share in pairs]
    with safe_open(pairs[-1][0], "pt") as last:
        about = last.metadata()
    save_file(quantised(blended(cards)), out, about)


if __name__ == "__main__":
    main()
