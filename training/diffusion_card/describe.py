"""Give a card another description, its tensors as they are: `describe.py CARD OUT [--about about.json]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.redescribed import redescribed

ABOUT = Path(__file__).resolve().parent / "about.json"


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
    written = redescribed(card, options.out, replace(card.description, **told))
    if not all(np.array_equal(card[name], written[name]) for name in card):
        raise SystemExit(f"{written.path}: its tensors are not those of {card.path}")
    print(f"{written.path}: {len(written)} tensors, {written.path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
