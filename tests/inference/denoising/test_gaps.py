"""Gaps become positions of a canvas, and given text stays to the letter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.inference.denoising.gaps import GappedText
from ai_os_diffusion.utils.errors import SamplingError

MASK = 999


def encode(text):
    return np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16).astype(np.int32) % 998


def parse(text, room=3):
    return GappedText.parse(text, encode, MASK, room)


def test_the_space_before_a_gap_belongs_to_what_fills_it():
    gapped = parse("The capital of {} is Paris.")
    assert gapped.gaps == ((14, 17),)
    assert (gapped.ids[14:17] == MASK).all()
    assert (gapped.ids[:14] == encode("The capital of")).all()
    assert (gapped.ids[17:] == encode(" is Paris.")).all()
    assert gapped.filled([" France"]) == "The capital of France is Paris."
    assert gapped.filled(["France"]) == "The capital of France is Paris."


def test_a_gap_may_stand_at_either_end():
    assert parse("{} is red").filled([" It"]) == "It is red"
    assert parse("It is {}").filled([" red."]) == "It is red."
    assert parse("re{}d").filled(["a"]) == "read"


pieces = st.text(st.characters(exclude_characters="{}", codec="utf-8"), min_size=1).filter(str.strip)


@given(st.lists(pieces, min_size=2, max_size=5), st.integers(1, 9))
def test_given_pieces_stay_to_the_letter(given_pieces, room):
    gapped = parse("{}".join(given_pieces), room)
    assert (gapped.ids == MASK).sum() == room * (len(given_pieces) - 1)
    text = gapped.filled(["|"] * (len(given_pieces) - 1))
    assert text == "|".join(given_pieces)


@pytest.mark.parametrize(
    ("text", "room", "message"),
    [
        ("no gap", 3, "infill is 'no gap', expected a text with {}"),
        (5, 3, "infill is 5"),
        ("a {} {} b", 3, "two gaps .* follow each other"),
        ("a {}", 0, "max_fill is 0, expected 1 or more"),
        ("a {}", True, "max_fill is True"),
    ],
)
def test_what_has_no_gap_is_refused(text, room, message):
    with pytest.raises(SamplingError, match=message):
        parse(text, room)
