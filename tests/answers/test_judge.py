import json
import math

import pytest

from ai_os_diffusion.answers.candidates import Candidate, Place
from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.utils.errors import CardError
from ai_os_diffusion.utils.statistics.calibration import Calibration, Feature

HIT = RecallHit("m", "one two three", 0.5)


def candidate(margin, **features):
    return Candidate(f"{margin}", (Place(HIT, 0, 3, margin),), {"margin": margin, **features})


def by(feature, threshold=0.5):
    return Judge(Calibration(0.0, {feature: Feature(0.0, 1.0, 1.0)}), threshold)


def test_the_likeliest_is_first_whatever_its_margin():
    ranked = by("lead").ranked([candidate(3.0, lead=-2.0), candidate(1.0, lead=2.0)])
    assert [one.candidate.margin for one in ranked] == [1.0, 3.0]
    assert ranked[0].confidence == pytest.approx(0.8808, abs=1e-4)


def shown(judge, found):
    """How many of the answers are shown, none of which overlap."""
    some = []
    for one in judge.ranked(found):
        if not judge.is_worth_showing(one, some):
            break
        some.append(one)
    return len(some)


def test_the_first_must_reach_the_threshold():
    found = [candidate(1.0), candidate(-1.0)]
    assert shown(by("margin", 0.7), found) > 0
    assert shown(by("margin", 0.75), found) == 0
    assert shown(by("margin"), []) == 0


@pytest.mark.parametrize(
    ("chances", "count"),
    [((0.9, 0.51), 2), ((0.9, 0.49), 1), ((0.6, 0.38), 2), ((0.6, 0.37), 1), ((0.4, 0.4, 0.4), 2)],
)
def test_a_further_one_is_likely_right_too_or_where_all_before_it_are_wrong(chances, count):
    found = [candidate(math.log(chance / (1 - chance))) for chance in chances]
    assert shown(by("margin", 0.3), found) == count


def test_without_a_calibration_the_reader_itself_says_whether_it_is_none():
    ranked = Judge().ranked([candidate(1.0), candidate(0.5)])
    assert [one.confidence for one in ranked] == [None, None]
    assert shown(Judge(), [candidate(1.0), candidate(0.5)]) == 1
    assert shown(Judge(), [candidate(-0.1)]) == 0
    assert Judge.of({}, "card") == Judge()
    assert Judge().to_config() == {}


def test_a_card_says_how_it_was_fitted():
    judge = by("margin", 0.3)
    assert Judge.of(json.loads(json.dumps(judge.to_config())), "card") == judge


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        "x",
        {"threshold": 0.5},
        {"threshold": "x", "calibration": by("a").to_config()["answers"]["calibration"]},
        {"threshold": 2.0, "calibration": by("a").to_config()["answers"]["calibration"]},
        {"threshold": float("nan"), "calibration": by("a").to_config()["answers"]["calibration"]},
        {
            "threshold": 0.5,
            "calibration": {"bias": 0, "features": {"a": {"mean": 0, "scale": 0, "weight": 1}}},
        },
    ],
)
def test_what_is_no_calibration_is_refused(told):
    with pytest.raises(CardError, match="card: config: answers"):
        Judge.of({"answers": told}, "card")
