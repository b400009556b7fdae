"""An encoder learns which texts belong together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ai_os_diffusion._native import Trainer, WeightFile
from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer
from ai_os_diffusion.evolution.objectives.contrastive_learning import ContrastiveLearning, contrastive_loss
from ai_os_diffusion.evolution.objectives.text_pairs import TextPairs
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards.names import MAGNITUDE
from ai_os_diffusion.utils.errors import CardError, TrainingError

PAIRS = [
    ("who wrote it", "ada lovelace"),
    ("when", "1843"),
    ("for what", "an engine of wheels"),
    ("who built that", "nobody at all"),
    ("where is it", "in london"),
    ("how large", "four metres"),
]
SMALL = {"rank": 4, "batch_size": 6, "rate": 1e-2, "warm_up": 2}


@pytest.fixture
def encoder(tiny_encoder_dir):
    with ArrowEngine(tiny_encoder_dir, num_threads=2) as engine:
        yield engine


def learn(encoder, folder, name="near", epochs=40, pairs=PAIRS, **more):
    settings = {key: more.pop(key) for key in list(more) if hasattr(LoRAConfig, key)}
    trainer = LoRATrainer(encoder, config=LoRAConfig(**SMALL | settings), folder=folder)
    return trainer.train_pairs(pairs, name, epochs=epochs, **more)


def found(encoder):
    """Share of the queries that are nearest to their own text."""
    queries, positives = (encoder.encode(list(texts)) for texts in zip(*PAIRS, strict=True))
    return float(((queries @ positives.T).argmax(1) == np.arange(len(PAIRS))).mean())


def test_what_was_learned_is_found_with_the_card_alone(encoder, tmp_path):
    before, vectors = found(encoder), encoder.encode(["who wrote it"])
    told = []
    card = learn(encoder, tmp_path, tell=told.append)
    np.testing.assert_array_equal(encoder.encode(["who wrote it"]), vectors)
    encoder.attach(card)
    assert before < 0.7
    assert found(encoder) == 1.0
    encoder.detach("near")
    np.testing.assert_array_equal(encoder.encode(["who wrote it"]), vectors)
    assert [line["step"] for line in told] == list(range(1, 41))
    assert told[-1]["loss"] < told[0]["loss"] / 4
    about = card.description
    assert (about.kind, about.mode, about.config["objective"]) == ("skill", None, "contrastive")
    assert about.metrics["pairs"] == len(PAIRS)


def test_magnitudes_are_learned_beside_factors(encoder, tmp_path):
    card = learn(encoder, tmp_path, use_dora=True)
    assert len([name for name in card if name.endswith(MAGNITUDE)]) == len(card.layers) > 0
    with encoder.using(card):
        assert found(encoder) == 1.0
    assert found(encoder) < 0.7


def test_a_learning_that_was_broken_off_goes_on_to_the_same_card(encoder, tmp_path):
    whole = learn(encoder, tmp_path / "whole", epochs=4, batch_size=3, dropout=0.1)
    steps = []
    more = {"tell": steps.append, "is_stopped": lambda: len(steps) == 3}
    with pytest.raises(TrainingError, match="broken off"):
        learn(encoder, tmp_path, epochs=4, batch_size=3, dropout=0.1, **more)
    card = learn(encoder, tmp_path, epochs=4, batch_size=3, dropout=0.1, tell=steps.append)
    assert [line["step"] for line in steps] == list(range(1, 9))
    for name in whole:
        np.testing.assert_array_equal(card[name], whole[name])
    assert not list(tmp_path.glob(".*")), "nothing is left of the learning"


def test_the_passes_change_nothing(encoder, tmp_path, monkeypatch):
    together = learn(encoder, tmp_path / "one", epochs=3)
    monkeypatch.setattr("ai_os_diffusion.evolution.objectives.contrastive_learning._POSITIONS", 24)
    apart = learn(encoder, tmp_path / "many", epochs=3)
    for name in together:
        np.testing.assert_allclose(apart[name], together[name], atol=2e-3, err_msg=name)


def test_the_trainer_computes_what_the_engine_does(tiny_encoder_dir, encoder):
    metadata = (tiny_encoder_dir / "metadata.json").read_text(encoding="utf-8")
    trainer = Trainer(WeightFile(tiny_encoder_dir / "weights.parquet"), metadata, {}, scaling=1.0)
    ids, starts = encoder.tokenizer.encode_ragged([text for _, text in PAIRS], 128)
    lengths = np.diff(starts)
    places = np.concatenate([np.arange(length) for length in lengths])
    document = np.repeat(np.arange(len(lengths)), lengths)
    nothing = np.zeros(len(ids), np.int32)
    batch = (ids, places.astype(np.int32), nothing, nothing, document.astype(np.int32))
    expected = np.concatenate(encoder.core.token_states((ids, starts)))
    # The engine rounds what it multiplies to integers.
    error = np.linalg.norm(trainer.states(batch) - expected) / np.linalg.norm(expected)
    assert error < 0.02


def test_the_gradient_of_the_loss_is_its_slope():
    rng = np.random.default_rng(0)
    queries, positives = rng.normal(size=(2, 5, 7)).astype(np.float64)
    texts = ["a", "b", "c", "a", "d"]
    loss, of_queries, of_positives = contrastive_loss(queries, positives, texts)
    assert loss > 0
    for vectors, gradient in ((queries, of_queries), (positives, of_positives)):
        for index in np.ndindex(vectors.shape):
            kept, step = vectors[index], 1e-5
            sides = []
            for moved in (kept + step, kept - step):
                vectors[index] = moved
                sides.append(contrastive_loss(queries, positives, texts)[0])
            vectors[index] = kept
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-7)


def test_equal_texts_are_no_negatives_of_each_other():
    rng = np.random.default_rng(1)
    queries, positives = rng.normal(size=(2, 3, 4)).astype(np.float32)
    positives[1] = positives[0]
    alone = contrastive_loss(queries[[0, 2]], positives[[0, 2]], ["a", "b"])[0]
    with_twin = contrastive_loss(queries, positives, ["a", "a", "b"])
    twin = contrastive_loss(queries[[1, 2]], positives[[1, 2]], ["a", "b"])[0]
    # Each of the two is told apart from the third alone; the third from both.
    assert with_twin[0] > 0
    without = contrastive_loss(queries, positives, ["a", "c", "b"])[0]
    assert with_twin[0] < without
    assert min(alone, twin) > 0


def test_pooling_by_the_first_token(encoder, tmp_path):
    encoder.metadata = replace(encoder.metadata, pooling="cls")
    trainer = LoRATrainer(encoder, config=LoRAConfig(**SMALL), folder=tmp_path)
    run = ContrastiveLearning(encoder, trainer._new_trainer(), trainer.config, TextPairs.of(PAIRS), 20)
    losses = []
    while not run.is_done:
        losses.append(run.step()["loss"])
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("changes", [{"pooling": "max"}, {"include_prompt": False}])
def test_vectors_that_are_made_another_way_are_refused(encoder, tmp_path, changes):
    encoder.metadata = replace(encoder.metadata, **changes)
    with pytest.raises(TrainingError, match="not trained here"):
        learn(encoder, tmp_path)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "at least two"),
        ([("a", "b")], "at least two"),
        ([("a", "b"), ("c", "b")], "at least two"),
        ("text", "expected a list of pairs"),
        ([("a", "b"), ("c", " ")], "pairs, 2"),
        ([("a", "b", "c")], "3 values"),
        ([{"query": "a"}], "got query"),
        ([{"query": "a", "q": "b", "positive": "c"}], "got query, q, positive"),
        ([7], "got int"),
    ],
)
def test_pairs_that_are_none_are_named(encoder, tmp_path, given, told):
    with pytest.raises(TrainingError, match=told):
        learn(encoder, tmp_path, pairs=given)


def test_pairs_are_read_from_files(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": "a", "positive": "b"}, {"q": "c", "a": "d"}, {"q": "c", "a": "d"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    pairs = TextPairs.read(path)
    assert (pairs.pairs, pairs.repeated) == ((("a", "b"), ("c", "d")), 1)


def test_wrong_uses_are_named(encoder, tmp_path, tiny_decoder_dir):
    with pytest.raises(TrainingError, match="batch_size is 1"):
        learn(encoder, tmp_path, batch_size=1)
    with pytest.raises(TrainingError, match="expected 'contrastive'"):
        LoRATrainer(encoder, folder=tmp_path, objective="causal")
    with ArrowEngine(tiny_decoder_dir) as decoder:
        with pytest.raises(TrainingError, match="expected an encoder, or train_qa"):
            LoRATrainer(decoder, folder=tmp_path).train_pairs(PAIRS, "near")
        card = learn(encoder, tmp_path, epochs=1)
        with pytest.raises(CardError, match="attach it to its own base"):
            decoder.attach(card)


def test_patience_is_refused_and_losses_are_drawn(encoder, tmp_path):
    with pytest.raises(TrainingError, match="patience is 3, expected 0"):
        learn(encoder, tmp_path, patience=3)
    with pytest.raises(TrainingError, match=r"selected is 0\.5, expected 1"):
        learn(encoder, tmp_path, selected=0.5)
    pytest.importorskip("matplotlib")
    with pytest.raises(TrainingError, match="expected a picture"):
        learn(encoder, tmp_path, picture=tmp_path / "losses.txt")
    learn(encoder, tmp_path, epochs=2, picture=tmp_path / "losses.svg")
    assert ">training<" in (tmp_path / "losses.svg").read_text()
