from dataclasses import replace

import numpy as np
import pytest

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.redescribed import redescribed
from support.reader_cards import reader_card


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_a_card_keeps_its_tensors_and_says_something_else(tiny_encoder_dir, tmp_path, bits):
    given = reader_card(tiny_encoder_dir, tmp_path / "given.parquet")
    card = Card.write(
        tmp_path / "card.parquet", given.description, ((name, given[name]) for name in given), bits=bits
    )
    about = replace(card.description, config={"answers": {"threshold": 0.5}})
    written = redescribed(card, tmp_path / "out.parquet", about)
    assert written.description == about
    assert list(written) == list(card)
    for name in card:
        np.testing.assert_array_equal(written[name], card[name])
        assert written.native.info(name)["quant_type"] == card.native.info(name)["quant_type"]
