"""Give a card another description, its tensors as they are: `describe.py CARD OUT [--about about.json]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.card import Tensor
from ai_os_diffusion.models.convert.source import Codes

ABOUT = Path(__file__).resolve().parent / "about.json"


def stored(card: Card, name: str) -> Tensor:
    """A tensor as the file holds it, not rounded again."""
    file, info = card.native, card.native.info(name)
    if info["quant_type"] is None:
        return file.plain(name)
    return Codes(
        file.unpacked_codes(name),
        file.scales(name),
        file.zero_points(name),
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
    print(f"{written.path}: {len(written)} tensors, {written.path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
