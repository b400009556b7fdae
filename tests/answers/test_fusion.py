import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.answers.fusion import Fusion, fusion_features
from ai_os_diffusion.utils.statistics.calibration import Calibration, Feature

NEAR, TOLD = (0.6, 0.5, 0.2, 0.1), (0.0, 1.0, 9.0, 0.0)


def by(**weights):
    return Fusion(Calibration(0.0, {name: Feature(0.0, 1.0, weight) for name, weight in weights.items()}))


def test_each_search_has_its_say():
    assert by(vector=1.0).order("?", NEAR, TOLD) == [0, 1, 2, 3]
    assert by(words=1.0).order("?", NEAR, TOLD) == [2, 1, 0, 3]
    assert by(words=1.0, vector=0.2).order("?", NEAR, TOLD)[0] == 2


def test_features_do_not_depend_on_the_scales_of_the_searches():
    plain = fusion_features("Which port?", NEAR, TOLD)
    scaled = fusion_features(
        "Which port?", [0.5 + 0.1 * value for value in NEAR], [3.0 * value for value in TOLD]
    )
    for own, other in zip(plain, scaled, strict=True):
        assert own == pytest.approx(other)


def test_names_make_words_count_where_that_was_fitted():
    fusion = by(vector=1.0, words_named=9.0)
    assert fusion.order("which port does the database use", NEAR, TOLD)[0] == 0
    assert fusion.order("port of PostgreSQL-14", NEAR, TOLD)[0] == 2


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), max_size=9),
    st.text(max_size=20),
)
def test_every_candidate_has_a_place(found, question):
    similarities, scores = [one for one, _ in found], [one for _, one in found]
    features = fusion_features(question, similarities, scores)
    assert all(np.isfinite(list(own.values())).all() for own in features)
    assert sorted(Fusion().order(question, similarities, scores)) == list(range(len(found)))


def test_what_is_shipped_knows_the_features_and_believes_both_searches():
    fusion = Fusion()
    known = set(fusion_features("?", NEAR, TOLD)[0])
    assert set(fusion.calibration.features) <= known
    # What both searches find best is first, and what neither finds last.
    assert fusion.order("when are the roses cut?", (0.6, 0.3, 0.1), (8.0, 2.0, 0.0)) == [0, 1, 2]
