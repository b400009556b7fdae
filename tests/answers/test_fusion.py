import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.answers.fusion import Fusion

NEAR, TOLD = (0.6, 0.5, 0.2, 0.1), (0.0, 1.0, 9.0, 0.0)


def test_each_search_has_its_say():
    assert Fusion(0.0).order(NEAR, TOLD) == [0, 1, 2, 3]
    assert Fusion(1e6).order(NEAR, TOLD) == [2, 1, 0, 3]
    assert Fusion(1.0).order(NEAR, TOLD)[0] == 2


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_the_scales_of_the_searches_do_not_count(weight):
    scaled = [0.5 + 0.1 * value for value in NEAR], [3.0 * value for value in TOLD]
    assert Fusion(weight).order(*scaled) == Fusion(weight).order(NEAR, TOLD)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), max_size=9))
def test_every_candidate_has_a_place(found):
    similarities, scores = [one for one, _ in found], [one for _, one in found]
    assert sorted(Fusion().order(similarities, scores)) == list(range(len(found)))


def test_what_is_shipped_believes_both_searches():
    # What both searches find best is first, and what neither finds last.
    assert Fusion().order((0.6, 0.3, 0.1), (8.0, 2.0, 0.0)) == [0, 1, 2]
    # Far above all others by words alone, or by vectors alone.
    assert Fusion().order((0.3, 0.31, 0.3, 0.29), (0.0, 0.0, 0.0, 20.0))[0] in (1, 3)
