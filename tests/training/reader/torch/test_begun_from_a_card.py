"""A run goes on from a card that is there, and refuses one of another make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from ai_os_diffusion.models.cards import Card  # noqa: E402
from ai_os_diffusion.models.cards.redescribed import redescribed  # noqa: E402
from ai_os_diffusion.training.reader import train_reader  # noqa: E402
from ai_os_diffusion.utils.errors import CardError, ModelNotFoundError, TrainingError  # noqa: E402

ROWS = [
    {
        "question": "who sat?",
        "passages": [{"text": "cat sat", "answers": [{"start": 0, "text": "cat"}]}, {"text": "dog ran"}],
    },
]


@pytest.fixture
def first(make_reader, tmp_path):
    """A card that was trained before."""
    return Card(train_reader(make_reader(ROWS), tmp_path / "first", device="cpu").card)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_run_begins_with_the_weights_of_a_card(make_reader, tmp_path, first, average):
    still = {"optimizer": {"rate": 1e-9, "steps": 2, "weight_decay": 0.0}}
    card = {"init": str(first.path), "average": average}
    again = Card(train_reader(make_reader(ROWS, card=card, **still), tmp_path / "again", device="cpu").card)
    assert set(again) == set(first)
    for name in first:
        np.testing.assert_allclose(again[name], first[name], atol=1e-6)
    moved = Card(train_reader(make_reader(ROWS, card=card), tmp_path / "moved", device="cpu").card)
    assert any(not np.allclose(moved[name], first[name], atol=1e-5) for name in first)


def test_a_run_that_was_begun_from_a_card_goes_on_from_its_own_state(make_reader, tmp_path, first):
    recipe = make_reader(ROWS, card={"init": str(first.path)}, optimizer={"steps": 6})
    asked = iter([False, False, False, True])
    broken = train_reader(recipe, tmp_path / "parts", device="cpu", is_stopped=lambda: next(asked))
    assert not broken.is_done
    parts = Card(train_reader(recipe, tmp_path / "parts", device="cpu").card)
    whole = Card(train_reader(recipe, tmp_path / "whole", device="cpu").card)
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rank": 4}, r"card\.init: .*rank 8, expected 4"),
        ({"alpha": 3.0}, r"card\.init: .*scaling"),
    ],
)
def test_a_card_of_another_rank_or_scaling_is_refused(make_reader, tmp_path, first, changed, told):
    recipe = make_reader(ROWS, card={"init": str(first.path), **changed})
    with pytest.raises(TrainingError, match=told):
        train_reader(recipe, tmp_path / "other", device="cpu")


@pytest.mark.parametrize("what", ["kind", "base"])
def test_a_card_of_another_kind_or_base_is_refused(make_reader, tmp_path, first, what):
    about, path = first.description, tmp_path / "strange.parquet"
    strange = {"kind": "skill", "base": replace(about.base, weights_sha256="0" * 64)}
    redescribed(first, path, replace(about, **{what: strange[what]}))
    with pytest.raises(TrainingError, match=rf"card\.init: .*{what} (skill|0000).*expected"):
        train_reader(make_reader(ROWS, card={"init": str(path)}), tmp_path / "other", device="cpu")


def test_what_is_no_card_is_told(make_reader, tmp_path, tiny_encoder_dir):
    recipe = make_reader(ROWS, card={"init": str(tmp_path / "none.parquet")})
    with pytest.raises(ModelNotFoundError, match="expected the file of a card"):
        train_reader(recipe, tmp_path / "other", device="cpu")
    recipe = make_reader(ROWS, card={"init": str(tiny_encoder_dir / "weights.parquet")})
    with pytest.raises(CardError, match="no description of a card"):
        train_reader(recipe, tmp_path / "other", device="cpu")
