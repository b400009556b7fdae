"""How long gaps are is decided by one pass, at the median."""

import numpy as np
import pytest

from ai_os_diffusion.diffusion import Predictions
from ai_os_diffusion.inference.denoising.gap_lengths import with_gap_lengths
from ai_os_diffusion.inference.denoising.infill_plan import infill_plan
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

MASK, NULL, VOCAB = 90, 91, 100
SETTINGS = DiffusionSettings(mask_id=MASK, null_id=NULL)


class Told:
    """A denoiser that gives NULL the chances it is told, whatever is asked."""

    null_id = NULL

    def __init__(self, *chances):
        self._chances = np.array(chances, np.float32)

    def read(self, asked):
        return [None for _ in asked]

    def predict(self, asked):
        (ask,) = asked
        assert (ask.ids[ask.rows] == MASK).all()
        chances = self._chances
        ids = np.where(chances >= 0.4, NULL, 7).astype(np.int32)
        shares = np.maximum(chances, 1 - chances)
        return [Predictions(ids, shares, shares, ids[:, None], np.where(ids == NULL, chances, 0.3)[:, None])]


def encode(text):
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32) % MASK


def measured(text, *chances, room=4, least=0):
    plan = infill_plan(np.zeros(0, np.int32), text, encode, SETTINGS, VOCAB, room, least)
    found = with_gap_lengths(Told(*chances), plan, VOCAB)
    (ids,) = found.blocks
    return [
        (
            int((ids[begin:end] == MASK).sum()),
            [NULL in found.allowed.get((0, row), [NULL]) for row in range(begin, end)],
        )
        for begin, end in found.gaps
    ]


def test_a_gap_ends_where_nothing_is_likelier_than_something():
    ((length, may_be_null),) = measured("a {} b", 0.1, 0.45, 0.5, 0.3)
    assert length == 2
    assert may_be_null == [False, False, True, True]


def test_a_gap_that_is_empty_is_written_as_that():
    ((length, may_be_null),) = measured("a {} b", 0.9, 0.9, 0.9, 0.9)
    assert length == 1
    assert may_be_null[0]


def test_a_gap_may_take_all_its_room():
    assert measured("a {} b", 0.1, 0.1, 0.2, 0.45)[0][0] == 4


def test_each_gap_has_a_length_of_its_own():
    found = measured("a {} b {} c", 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.6)
    assert [length for length, _ in found] == [1, 3]


@pytest.mark.parametrize("least", [1, 3])
def test_a_gap_holds_at_least_what_it_has_to(least):
    ((length, may_be_null),) = measured("a {} b", 0.9, 0.9, 0.9, 0.9, least=least)
    assert length == least
    assert may_be_null == [False] * least + [True] * (4 - least)
