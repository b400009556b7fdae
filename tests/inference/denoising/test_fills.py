"""Values that a template was filled with are told apart from those that are likelier wrong."""

from __future__ import annotations

import pytest

from ai_os_diffusion.diffusion import Calibration, UncertaintyEstimator
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.forms.slot_evidence import slot_evidence
from ai_os_diffusion.inference.denoising.forms.template import Template
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError, SamplingError
from support.diffusion_cards import CONFIG, card

FORM = {"name": str, "age": int, "year": int | None, "tags": list[str], "size": ("small", "large")}
NOTES = "Ann is 7 years old."


@pytest.fixture
def filled(wide_decoder_dir, tmp_path):
    """Fill the form, with a card that has this calibration."""

    def fill(calibration, **settings):
        config = CONFIG if calibration is None else {**CONFIG, "fill_uncertainty": calibration}
        with (
            ArrowEngine(wide_decoder_dir, device="cpu") as engine,
            engine.using(card(engine, tmp_path / "card.parquet", config)),
        ):
            return engine.diffuse(**{"context": NOTES, "template": FORM, "seed": 1, **settings})

    return fill


def test_values_that_are_too_doubtful_stay_empty_where_they_may(filled):
    as_written = filled(None)
    assert [fill.uncertainty for fill in as_written.fills] == [None] * len(FORM)
    assert all(as_written.value[name] for name in ("name", "tags", "size"))
    wrong, right = {"bias": 9.0, "features": {}}, {"bias": -9.0, "features": {}}
    doubted = filled(wrong, max_uncertainty=0.5)
    # A number and a choice that must be given have nothing else to be.
    kept = {name: as_written.value[name] for name in ("age", "size")}
    assert doubted.value == {"name": "", "year": None, "tags": [], **kept}
    assert doubted.fills == as_written.fills
    assert filled(right, max_uncertainty=0.5).value == as_written.value
    assert filled(wrong).value == filled(wrong, max_uncertainty=1.0).value == as_written.value
    nested = {"name": str, "home": {"city": str}}
    assert filled(wrong, template=nested, max_uncertainty=0.5).value == {"name": "", "home": {"city": ""}}


def test_each_value_has_its_own_doubt(filled):
    told = {
        "bias": 0.5,
        "features": {
            "most_surprise": {"mean": 0.1, "scale": 0.2, "weight": 0.6},
            "quoted": {"mean": 0.8, "scale": 0.3, "weight": -0.7},
            "numeric": {"mean": 0.2, "scale": 0.4, "weight": -0.5},
        },
    }
    found = filled(told)
    estimator = UncertaintyEstimator(Calibration.of(told))
    for fill in filter(None, found.fills):
        assert fill.uncertainty == estimator(fill.trajectory, **fill.evidence)
        assert 0 < fill.trajectory.confidences[0] <= 1
    doubts = [None if fill.uncertainty is None else round(fill.uncertainty, 6) for fill in found.fills]
    assert found.to_dict()["fill_uncertainties"] == doubts
    assert len(set(doubts)) > 1
    # What is not filled from notes is not held against them.
    invented = filled(told, context=None)
    assert [fill.uncertainty for fill in invented.fills] == [None] * len(FORM)


def test_what_a_value_tells_of_itself():
    slots = dict(zip(FORM, Template(FORM).slots, strict=True))
    plain = {"quoted": 0.0, "listed": 0.0, "numeric": 0.0, "judged": 0.0}
    assert slot_evidence(slots["name"], " ann ", NOTES) == {**plain, "quoted": 1.0}
    assert slot_evidence(slots["name"], "", NOTES) == plain
    assert slot_evidence(slots["age"], "8", NOTES) == {**plain, "numeric": 1.0}
    assert slot_evidence(slots["tags"], 'years", "old", "blue', NOTES)["quoted"] == pytest.approx(2 / 3)
    assert slot_evidence(slots["tags"], "x", NOTES)["listed"] == 1.0
    assert slot_evidence(slots["size"], "small", NOTES)["judged"] == 1.0


@pytest.mark.parametrize(("least", "most"), [(2, 5), (4, 4), (9, None)])
def test_a_gap_holds_at_least_what_it_shall(wide_decoder_dir, tmp_path, least, most):
    text, room = "The house is {} and Ann {} it.", most or least
    with ArrowEngine(wide_decoder_dir, device="cpu") as engine:
        with engine.using(card(engine, tmp_path / "a.parquet")):
            first = next(engine.diffuse_stream(infill=text, max_fill=room)).ids[0]
        # What it would write first stands for nothing.
        with engine.using(card(engine, tmp_path / "b.parquet", {**CONFIG, "null_id": int(first)})):
            assert len(engine.diffuse(infill=text, max_fill=room).tokens) < 2 * room
            found = engine.diffuse(infill=text, min_fill=least, max_fill=most)
    assert 2 * least <= len(found.tokens) <= 2 * room
    assert first not in found.tokens


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"infill": "a {} b", "min_fill": 3, "max_fill": 2}, "min_fill is 3, expected at most 2"),
        ({"infill": "a {} b", "min_fill": -1}, "min_fill is -1, expected 0 or more"),
        ({"infill": "a {} b", "min_fill": 1.5}, "min_fill is 1.5, expected 0 or more"),
        ({"template": {"a": str}, "min_fill": 1}, "min_fill belongs to infill"),
        ({"prompt": "a", "min_fill": 1}, "min_fill belongs to infill"),
        ({"template": {"a": str}, "max_uncertainty": 2}, "max_uncertainty is 2, expected 0 to 1"),
        ({"template": {"a": str}, "max_uncertainty": 0.5}, "a model that has a calibration for its values"),
        ({"infill": "a {} b", "max_uncertainty": 0.5}, "max_uncertainty belongs to a template"),
    ],
)
def test_what_is_asked_of_gaps_and_values_makes_sense(wide_decoder_dir, tmp_path, given, message):
    with (
        ArrowEngine(wide_decoder_dir, device="cpu") as engine,
        engine.using(card(engine, tmp_path / "card.parquet")),
        pytest.raises(SamplingError, match=message),
    ):
        engine.diffuse(**given)


@pytest.mark.parametrize("calibration", [3, {"bias": 1}, {"bias": 1, "features": {"quoted": {"mean": 0}}}])
def test_a_calibration_that_is_none_is_named(filled, calibration):
    with pytest.raises((ModelLoadError, ConfigurationError), match=r"fill_uncertainty|calibration"):
        filled(calibration)
