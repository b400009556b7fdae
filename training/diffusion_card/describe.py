"""Give a card another description, its tensors as they are: `describe.py CARD OUT [--about about.json]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.card import Tensor
from ai_os_diffusion.models.convert.source import Codes

ABOUT = Path(__file__).resolve().parent / "about.json"


def stored(card: Card, name: str) -> Tensor:
    """A tensor as the file holds it, not rounded again."""
    file, info = card.native, card.native.info(name)
    if info["quant_type"] is None:
        return file.plain(name)
    rows = info["shape"][0]

    def by_row(values: NDArray[Any]) -> NDArray[Any]:
        # Stored in panels, [panels, groups, rows of a panel].
        return np.ascontiguousarray(values.transpose(0, 2, 1).reshape(-1, values.shape[1])[:rows])

    zeros = file.zero_points(name)
    return Codes(
        file.unpacked_codes(name),
        by_row(file.scales(name)),
        None if zeros is None else by_row(zeros),
        int(info["quant_type"].removeprefix("int")),
        info["group_size"],
    )


def main() -> None:
    """Read, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--about", type=Path, default=ABOUT)
    options = parser.parse_args()
    about = json.loads(options.about.read_text(encoding="utf-8"))
    card = Card(options.card)
    told = {name: about[name] for name in ("config", "metrics") if name in about}
    written = Card.write(
        options.out,
        replace(card.description, **told),
        ((name, stored(card, name)) for name in card),
    )
    if not all(np.array_equal(card[name], written[name]) for name in card):
        raise SystemExit(f"{written.path}: its tensors are not those of {card.path}")
    print(f"{written.path}: {len(written)} tensors, {written.path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
