"""One probability of being wrong, fitted to what was judged, and as data in a file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ai_os_diffusion.diffusion import Calibration, Feature, Trajectory, UncertaintyEstimator
from ai_os_diffusion.utils.errors import ConfigurationError


def drawn(count: int, seed: int):
    """Texts whose chance of being wrong is known: the less sure the least sure token, the more likely."""
    rng = np.random.default_rng(seed)
    texts, chances = [], []
    for _ in range(count):
        sure = rng.uniform(0.2, 1.0)
        confidences = np.clip(rng.normal(sure, 0.05, rng.integers(1, 9)), 0.01, 1.0)
        texts.append(Trajectory(confidences, passes=int(rng.integers(1, 5))))
        chances.append(1 / (1 + np.exp(4 - 8 * texts[-1].features()["most_surprise"])))
    return texts, np.array(chances), rng.random(count) < chances


def test_it_is_calibrated_on_texts_that_it_was_not_fitted_to():
    texts, _, wrong = drawn(4000, 0)
    estimator = UncertaintyEstimator(Calibration.fit([text.features() for text in texts], wrong))
    others, chances, _ = drawn(4000, 1)
    found = np.array([estimator(text) for text in others])
    assert ((found > 0) & (found < 1)).all()
    for low in np.arange(0.0, 1.0, 0.2):
        inside = (low <= found) & (found < low + 0.2)
        if inside.sum() > 100:
            assert found[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.06)
    assert np.corrcoef(found, chances)[0, 1] > 0.9


def test_the_fit_is_where_the_likelihood_is_greatest():
    texts, _, wrong = drawn(500, 2)
    examples = [text.features() for text in texts]
    fitted = Calibration.fit(examples, wrong)

    def loss(calibration):
        chance = np.array([UncertaintyEstimator(calibration)(text) for text in texts])
        penalty = sum(one.weight**2 for one in calibration.features.values()) / 2
        return -np.log(np.where(wrong, chance, 1 - chance)).sum() + penalty

    best = loss(fitted)
    for name, own in fitted.features.items():
        for step in (-0.05, 0.05):
            moved = {**fitted.features, name: Feature(own.mean, own.scale, own.weight + step)}
            assert loss(Calibration(fitted.bias, moved)) > best


def test_further_evidence_counts_where_it_was_fitted_with_and_nowhere_else():
    texts, _, _ = drawn(400, 3)
    rng = np.random.default_rng(4)
    margin = rng.normal(size=400)
    wrong = margin + rng.normal(size=400) / 4 < 0
    examples = [{**text.features(), "margin": value} for text, value in zip(texts, margin, strict=True)]
    estimator = UncertaintyEstimator(Calibration.fit(examples, wrong))
    text = texts[0]
    assert estimator(text, margin=2.0) < 0.2 < 0.8 < estimator(text, margin=-2.0)
    assert estimator(text, margin=margin.mean()) == pytest.approx(estimator(text))
    assert estimator(text, colour=5.0) == estimator(text)
    assert estimator.should_evolve(text, margin=-2.0)
    assert not estimator.should_evolve(text, margin=2.0)
    assert estimator.should_evolve(text, threshold=0.0, margin=2.0)


def test_left_to_right_texts_without_entropies_fit_too():
    estimator = UncertaintyEstimator(
        Calibration.fit(
            [Trajectory([0.9], [0.1]).features(), Trajectory([0.1], [2.0]).features()], [False, True]
        )
    )
    assert estimator(Trajectory([0.95])) < estimator(Trajectory([0.05]))
    assert 0 < estimator(Trajectory([])) < 1
    assert np.isfinite(estimator(Trajectory([0.0])))


def test_how_open_a_text_was_before_it_was_begun_is_told():
    features = Trajectory([0.9], [0.1], [0.5, 0.25, 0.0], passes=1).features()
    assert features["first_entropy"] == pytest.approx(np.log1p(0.75))
    assert "first_entropy" not in Trajectory([0.9], [0.1]).features()


def test_it_is_data():
    texts, _, wrong = drawn(50, 5)
    fitted = Calibration.fit([text.features() for text in texts], wrong)
    assert Calibration.of(json.loads(json.dumps(fitted.to_dict()))) == fitted


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"bias": "a", "features": {}},
        {"bias": 0.0, "features": []},
        {"bias": float("nan"), "features": {}},
        {"bias": 0.0, "features": {"length": {"mean": 0, "scale": 0, "weight": 1}}},
        {"bias": 0.0, "features": {"length": {"mean": 0, "weight": 1}}},
    ],
)
def test_what_is_no_calibration_is_refused(config):
    with pytest.raises(ConfigurationError, match="calibration"):
        Calibration.of(config)


@pytest.mark.parametrize("wrong", [[True, True], [False, False], [True]])
def test_texts_of_one_kind_teach_nothing(wrong):
    with pytest.raises(ConfigurationError, match="examples of both kinds"):
        Calibration.fit([{"length": 1.0}, {"length": 2.0}], wrong)


def test_an_example_counts_as_often_as_its_weight_says():
    examples = [{"surprise": value} for value in (0.0, 1.0, 2.0, 3.0)]
    wrong = [False, True, False, True]
    weighted = Calibration.fit(examples, wrong, [1.0, 1.0, 1.0, 9.0])
    assert weighted.probability({"surprise": 3.0}) > Calibration.fit(examples, wrong).probability(
        {"surprise": 3.0}
    )
    alike = Calibration.fit(examples, wrong, [1.0] * 4)
    assert alike == Calibration.fit(examples, wrong)
    for weights in ([1.0] * 3, [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, float("nan")]):
        with pytest.raises(ConfigurationError, match="4 weights above 0"):
            Calibration.fit(examples, wrong, weights)


def test_a_feature_that_is_always_the_same_tells_nothing():
    # The deviation of three times .1 is not 0, and what differs from it would count for anything.
    examples = [{"surprise": float(n), "length": 0.1} for n in range(3)]
    assert set(Calibration.fit(examples, [False, True, True]).features) == {"surprise"}
