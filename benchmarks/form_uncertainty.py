"""How well a diffusion card knows which values of a form are wrong: `form_uncertainty.py CARD [--out FILE]`.

A calibration is fitted to the values that the card writes into `training/diffusion_card/forms.jsonl`, short
notes, and, with AIOS_DATA, into forms whose fields are asked of passages that the card was not trained on. It
is measured on `beyond_pointing/templates.jsonl`, which was written before and by nobody who knew the other,
and on forms of other passages: AUROC of ranking wrong ones, expected calibration error (as `uncertainty.py`),
and what leaving out values that are likelier wrong than right does to the shares of right values, of filled
ones and of those rightly left empty.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.diffusion import Calibration, UncertaintyEstimator
from ai_os_diffusion.inference.denoising.diffusion_text import Fill
from answers import lines_of
from beyond_pointing import SETS
from diffusion_card import ABOUT
from measure import report
from models import card_file, converted, is_given
from uncertainty import auroc, calibration_error
from values import is_empty, same_value
from writers import template_of

RECIPE = Path(__file__).resolve().parents[1] / "training/diffusion_card"
FITTED = RECIPE / "forms.jsonl"

PASSAGES = 90, 60
"""Forms that are asked of passages, to fit to and to measure on."""

LINES = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2)
"""Chances of being wrong above which a value is left out (`max_uncertainty`)."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field as it was filled.

    Attributes:
        fill: what was written.
        is_right: whether that is its value.
        is_open: whether it has none.
    """

    fill: Fill
    is_right: bool
    is_open: bool


def filled(engine: Any, rows: Sequence[dict[str, Any]]) -> list[Field]:
    """The fields of forms, all that was written kept."""
    found = []
    for row in rows:
        form = template_of(row["template"])
        written = engine.diffuse(context=row["notes"], template=form, max_uncertainty=1.0)
        for fill, (name, kind) in zip(written.fills, row["template"].items(), strict=True):
            expected = None if is_empty(row["values"][name]) else row["values"][name]
            is_right = same_value(kind, written.value[name], expected)
            found.append(Field(fill, is_right, expected is None))
    return found


def of_passages(data: Path, counts: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Forms of passages that are kept from training, each passage once; questions are their fields."""
    sys.path.insert(0, str(RECIPE))
    from examples import Examples

    examples, rng = Examples(data, held_out=True), random.Random(4)
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < sum(counts):
        if found := examples.asked_form(rng):
            notes, fields = found
            values = {field.name: field.value or None for field in fields}
            rows.setdefault(
                notes, {"notes": notes, "template": dict.fromkeys(values, "str"), "values": values}
            )
    each = iter(rows.values())
    return [[next(each) for _ in range(count)] for count in counts]


def shares(fields: Sequence[Field], kept: Sequence[bool]) -> dict[str, float]:
    """Per cent of right fields where those that are not kept are empty."""
    right = [one.is_right if keep else one.is_open for one, keep in zip(fields, kept, strict=True)]

    def share(own: Sequence[bool]) -> float:
        return round(100 * sum(own) / len(own), 1)

    return {
        "right": share(right),
        "filled": share([ok for ok, one in zip(right, fields, strict=True) if not one.is_open]),
        "left_open": share([ok for ok, one in zip(right, fields, strict=True) if one.is_open]),
    }


def believed(fields: Sequence[Field], chances: Sequence[float], line: float) -> dict[str, float]:
    """Per cent of right fields where what is likelier wrong than a line says is left empty."""
    each = iter(chances)
    return shares(fields, [not one.fill or float(next(each)) <= line for one in fields])


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--limit", type=int, help="forms of each set")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="write the calibration, as a card's config holds it")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    data = os.environ.get("AIOS_DATA")
    asked = of_passages(Path(data), PASSAGES) if data else [[], []]
    forms = {
        "fitted": [*lines_of(FITTED)[: options.limit], *asked[0]],
        "notes": lines_of(SETS / "templates.jsonl")[: options.limit],
        "passages": asked[1],
    }
    base = converted("smollm2", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(base, device="cpu", num_threads=options.threads) as engine,
    ):
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        sets = {name: filled(engine, rows) for name, rows in forms.items() if rows}
    calibration = Calibration.fit(
        [known(one) for one in sets["fitted"] if one.fill],
        [not one.is_right for one in sets["fitted"] if one.fill],
    )
    if options.out:
        options.out.write_text(json.dumps(calibration.to_dict(), indent=2) + "\n", encoding="utf-8")
    report(**{name: measured(fields, UncertaintyEstimator(calibration)) for name, fields in sets.items()})


def known(field: Field) -> dict[str, float]:
    """What tells of a value's being right."""
    return field.fill.trajectory.features() | dict(field.fill.evidence)


def measured(fields: Sequence[Field], estimator: UncertaintyEstimator) -> dict[str, Any]:
    """How well a calibration tells wrong values, and what leaving them out does."""
    told = [one for one in fields if one.fill]
    chances = np.array([estimator(one.fill.trajectory, **one.fill.evidence) for one in told])
    wrong = np.array([not one.is_right for one in told])
    return {
        "fields": len(fields),
        "written": len(told),
        "auroc": round(float(auroc(chances, wrong)), 3),
        "calibration_error": round(float(calibration_error(chances, wrong)), 3),
        "all_kept": shares(fields, [True] * len(fields)),
        "kept_below": {str(line): believed(fields, chances, line) for line in LINES},
    }


if __name__ == "__main__":
    main()
