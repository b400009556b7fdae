"""How well a diffusion card knows which values of a form are wrong: `form_uncertainty.py CARD [--out FILE]`.

A calibration is fitted to the values that the card writes into `training/diffusion_card/forms.jsonl`, and
measured on those of `beyond_pointing/templates.jsonl`, which was written before and by nobody who knew the
other: AUROC of ranking wrong ones, expected calibration error (as `uncertainty.py`), and what leaving out
values that are likelier wrong than right does to the shares of right values, of filled ones and of those
rightly left empty.
"""

from __future__ import annotations

import argparse
import json
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

FITTED = Path(__file__).resolve().parents[1] / "training/diffusion_card/forms.jsonl"


LINES = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2)
"""Chances of being wrong above which a value is left out (`max_uncertainty`)."""

EMPTY = 90.0
"""Per cent of the fields without a value that are to stay empty."""


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
        written = engine.diffuse(context=row["notes"], template=template_of(row["template"]))
        for fill, (name, kind) in zip(written.fills, row["template"].items(), strict=True):
            expected = None if is_empty(row["values"][name]) else row["values"][name]
            is_right = same_value(kind, written.value[name], expected)
            found.append(Field(fill, is_right, expected is None))
    return found


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
    base = converted("smollm2", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(base, device="cpu", num_threads=options.threads) as engine,
    ):
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        sets = [
            filled(engine, lines_of(file)[: options.limit]) for file in (FITTED, SETS / "templates.jsonl")
        ]
    told = [[one for one in fields if one.fill] for fields in sets]
    features = [[one.fill.trajectory.features() | dict(one.fill.evidence) for one in own] for own in told]
    wrong = [np.array([not one.is_right for one in own]) for own in told]
    calibration = Calibration.fit(features[0], wrong[0].tolist())
    if options.out:
        options.out.write_text(json.dumps(calibration.to_dict(), indent=2) + "\n", encoding="utf-8")
    estimator = UncertaintyEstimator(calibration)
    chances = [np.array([estimator(one.fill.trajectory, **one.fill.evidence) for one in own]) for own in told]
    lines = {line: [believed(*both, line) for both in zip(sets, chances, strict=True)] for line in LINES}
    empty_enough = [line for line, (of_fitted, _) in lines.items() if of_fitted["left_open"] >= EMPTY]
    report(
        fields=[len(own) for own in sets],
        written=[len(own) for own in told],
        auroc=[round(auroc(own, was), 3) for own, was in zip(chances, wrong, strict=True)],
        expected_calibration_error=[
            round(calibration_error(own, was), 3) for own, was in zip(chances, wrong, strict=True)
        ],
        all_kept=shares(sets[1], [True] * len(sets[1])),
        kept_below={str(line): of_test for line, (_, of_test) in lines.items()},
        line_that_leaves_enough_empty_where_it_was_fitted=max(empty_enough, default=None),
    )


if __name__ == "__main__":
    main()
