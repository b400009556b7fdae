import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.answers import fusion
from ai_os_diffusion.answers.fusion import Fusion

NEAR, TOLD = (0.6, 0.5, 0.2, 0.1), (0.0, 1.0, 9.0, 0.0)


def test_each_search_has_its_say():
    assert Fusion(0.0).order(NEAR, TOLD) == [0, 1, 2, 3]
    assert Fusion(1e6).order(NEAR, TOLD) == [2, 1, 0, 3]
    assert Fusion(1.0).order(NEAR, TOLD)[0] == 2


def test_words_count_more_the_less_the_encoder_knows_of_the_question():
    places = [Fusion(0.1, 10.0).order(NEAR, TOLD, broken).index(2) for broken in (0.0, 0.5, 1.0)]
    assert places == sorted(places, reverse=True)
    assert places[0] > places[-1] == 0
    assert Fusion(0.1).order(NEAR, TOLD, 1.0) == Fusion(0.1).order(NEAR, TOLD)


def test_the_title_that_a_question_says_counts_the_more_the_less_the_encoder_knows_of_it():
    said, none = [False, False, True, False], [0.0] * 4
    places = [Fusion(0.1, 9.0).order(NEAR, none, broken, said).index(2) for broken in (0.0, 0.2, 1.0)]
    assert places == [2, 1, 0]
    assert Fusion(0.1).order(NEAR, none, 1.0, said) == Fusion(0.1).order(NEAR, none, 1.0)


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_the_scales_of_the_searches_do_not_count(weight):
    scaled = [0.5 + 0.1 * value for value in NEAR], [3.0 * value for value in TOLD]
    assert Fusion(weight).order(*scaled) == Fusion(weight).order(NEAR, TOLD)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), max_size=9), st.floats(0, 1))
def test_every_candidate_has_a_place(found, broken):
    similarities, scores = [one for one, _ in found], [one for _, one in found]
    assert sorted(Fusion.of().order(similarities, scores, broken)) == list(range(len(found)))


def test_what_is_shipped_believes_both_searches():
    # What both searches find best is first, and what neither finds last.
    assert Fusion.of().order((0.6, 0.3, 0.1), (8.0, 2.0, 0.0)) == [0, 1, 2]
    # Far above all others by words alone, or by vectors alone.
    assert Fusion.of().order((0.3, 0.31, 0.3, 0.29), (0.0, 0.0, 0.0, 20.0))[0] in (1, 3)


def test_an_encoder_has_the_weights_that_were_chosen_for_it():
    row = json.loads(fusion._CHOSEN.read_text(encoding="utf-8"))["encoders"][0]
    own, others = Fusion.of(row["weights_sha256"]), Fusion.of("0" * 64)
    assert (own.whole, own.split) == (row["whole"], row["split"])
    assert own.split > own.whole
    # How much a fragment says is known of one vocabulary only.
    assert others.split == others.whole == Fusion.of().whole
