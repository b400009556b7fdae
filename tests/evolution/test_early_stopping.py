"""Learning stops when other wordings are answered no better, with the best card, after a kill as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPair
from ai_os_diffusion.evolution.learning.early_stopping import EarlyStopping
from ai_os_diffusion.evolution.packed import Packed, Text
from ai_os_diffusion.utils.errors import TrainingError

PAIRS = [QAPair("Who wrote the first program?", "Ada"), QAPair("When was it printed?", "1843")]
OTHERS = [QAPair("Who was it that wrote the first program?", "Ada"), QAPair("When did one print it?", "1843")]
SMALL = {"rank": 4, "batch_size": 2, "rate": 1e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}


def learn(engine, folder, told, patience=3, pairs=PAIRS, **given):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL, patience=patience), folder=folder)
    given = {"epochs": 60, "validation": OTHERS} | given
    return trainer.train_qa(pairs, "facts", tell=told.append, **given)


def values(card):
    return {name: card[name] for name in card}


def test_it_stops_where_nothing_better_comes(engine, tmp_path):
    told = []
    card = learn(engine, tmp_path, told)
    shares = [line["validation_right"] for line in told]
    best = max(shares)
    assert len(told) < 60, "all is learned long before"
    assert shares.index(best) == len(shares) - 4, "three looks without a gain behind the first that was best"
    assert card.description.metrics["steps"] == len(told)


class Scripted:
    """Measures as it is told, with factors that tell at which look they were taken."""

    def __init__(self, right):
        self.right, self.looks = right, -1

    def measure(self, batch, weights, labels):
        self.looks += 1
        return 1.0, self.right[self.looks]

    def parameters(self):
        return {"factor": np.full(1, self.looks, np.float32)}


def test_the_best_is_kept_and_of_equals_the_latest():
    part = Packed.of([Text((1, 2, 3, 4, 5), 1)])
    stopping, trainer = EarlyStopping([part], 2), Scripted([1, 3, 3, 2])
    seen = []
    while not stopping.is_reached:
        seen.append(stopping.look(trainer)["validation_right"])
    assert seen == [0.25, 0.75, 0.75, 0.5]
    assert stopping.best["factor"] == [2.0]
    again = EarlyStopping([part], 2)
    again.restore(stopping.state())
    assert again.is_reached
    assert again.best["factor"] == [2.0]
    patient = EarlyStopping([part], 0)
    for right in (1, 0, 0):
        patient.look(Scripted([right]))
    assert not patient.is_reached


def test_without_patience_nothing_is_looked_at(engine, tmp_path):
    told = []
    learn(engine, tmp_path, told, patience=0, epochs=2, validation=())
    assert [line["step"] for line in told] == [1, 2]
    assert not any("validation_loss" in line for line in told)


def test_wordings_are_made_where_none_are_given(engine, tmp_path):
    told = []
    learn(engine, tmp_path, told, validation=(), epochs=1)
    assert told[0]["validation_loss"] > 0


@pytest.mark.parametrize("broken_off_after", [1, 7])
def test_broken_off_it_stops_at_the_same_step_with_the_same_card(engine, tmp_path, broken_off_after):
    told, whole = [], []
    expected = values(learn(engine, tmp_path / "whole", whole))
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, told, is_stopped=lambda: len(told) == broken_off_after)
    card = learn(engine, tmp_path, told)
    stamps = {"seconds"}
    assert [{k: v for k, v in line.items() if k not in stamps} for line in told] == [
        {k: v for k, v in line.items() if k not in stamps} for line in whole
    ]
    for name, array in values(card).items():
        np.testing.assert_array_equal(array, expected[name])


def test_other_wordings_are_another_learning(engine, tmp_path):
    told = []
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, told, is_stopped=lambda: True)
    learn(engine, tmp_path, told, validation=OTHERS[:1], epochs=60)
    assert told[1]["step"] == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"validation": [{"q": "Who?"}]}, "validation, 1: expected a or answer"),
        ({"patience": 0}, "expected a patience above 0"),
        ({"picture": Path("losses.pdf")}, "expected a picture"),
        ({"validation": [{"q": "word " * 900, "a": "yes"}]}, "expected at most"),
    ],
)
def test_bad_wordings_are_named_before_anything_is_computed(engine, tmp_path, given, expected):
    told = []
    with pytest.raises(TrainingError, match=expected):
        learn(engine, tmp_path, told, **given)
    assert not told


def test_the_picture_shows_a_learning_that_was_broken_off_from_its_beginning(engine, tmp_path):
    pytest.importorskip("matplotlib")
    whole, broken = tmp_path / "whole.svg", tmp_path / "broken.svg"
    learn(engine, tmp_path / "whole", [], picture=whole, epochs=6)
    told = []
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, told, epochs=6, is_stopped=lambda: len(told) == 3, picture=broken)
    learn(engine, tmp_path, told, epochs=6, picture=broken)
    assert broken.read_bytes() == whole.read_bytes()
