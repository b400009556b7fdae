"""A reader card is the one given, that of the model's folder, or one shipped for the same weights."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from ai_os_diffusion.models.cards import Card, readers
from ai_os_diffusion.models.cards.readers import NO_READER, find_reader
from ai_os_diffusion.utils.errors import CardError, ModelNotFoundError
from support.reader_cards import reader_card


@pytest.fixture
def card(tiny_encoder_dir, tmp_path):
    return reader_card(tiny_encoder_dir, tmp_path / "own.parquet")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    model, shipped = tmp_path / "model", tmp_path / "shipped"
    model.mkdir()
    shipped.mkdir()
    monkeypatch.setattr(readers, "SHIPPED", shipped)
    return model, shipped


def test_a_card_that_is_given_wins(card, folders):
    model, _ = folders
    shutil.copy(card.path, model / "reader.parquet")
    assert find_reader(str(card.path), model, None).path == card.path
    assert find_reader(NO_READER, model, card.description.base.weights_sha256) is None


def test_a_card_is_found_by_the_weights_of_its_base(card, folders):
    model, shipped = folders
    assert find_reader(None, model, card.description.base.weights_sha256) is None
    shutil.copy(card.path, shipped / "tiny-reader.parquet")
    assert (
        find_reader(None, model, card.description.base.weights_sha256).path == shipped / "tiny-reader.parquet"
    )
    assert find_reader(None, model, "1" * 64) is None
    assert find_reader(None, model, None) is None
    shutil.copy(card.path, model / "reader.parquet")
    assert find_reader(None, model, card.description.base.weights_sha256).path == model / "reader.parquet"


def test_a_card_that_does_not_read_is_refused_or_passed_by(card, folders, tmp_path):
    model, shipped = folders
    tensors = [(name, card[name]) for name in card]
    other = Card.write(shipped / "other-reader.parquet", replace(card.description, kind="skill"), tensors)
    assert find_reader(None, model, card.description.base.weights_sha256) is None
    with pytest.raises(CardError, match="kind 'skill', expected one of kind 'reader'"):
        find_reader(str(other.path), model, card.description.base.weights_sha256)
    with pytest.raises(ModelNotFoundError, match="not found"):
        find_reader(str(tmp_path / "missing.parquet"), model, card.description.base.weights_sha256)
