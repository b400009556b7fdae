"""Skills for a model that writes by diffusion, learned on the card with which it does."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from ai_os_diffusion._native import Trainer, WeightFile
from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPair, QAPairs, SkillTest, SkillVersions
from ai_os_diffusion.evolution.judging.gate import masked_logs
from ai_os_diffusion.evolution.loop.skill_proof import SkillProof
from ai_os_diffusion.evolution.objectives.masked_batches import MaskedBatches
from ai_os_diffusion.evolution.packed import Text
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.names import A, B
from ai_os_diffusion.models.convert.folder import copy_model
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.training.positions import visible
from ai_os_diffusion.utils.errors import CardError, TrainingError

PAIRS = [
    QAPair("Who wrote it?", "Ada"),
    QAPair("When?", "1843"),
    QAPair("For what?", "engines"),
    QAPair("Who built that?", "nobody"),
]
SMALL = {"rank": 8, "batch_size": 4, "rate": 1e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}


@pytest.fixture(scope="module")
def model_dir(tiny_decoder_dir, tmp_path_factory):
    """The tiny decoder with a card that has factors, norms, and rows of MASK and NULL."""
    rng = np.random.default_rng(5)
    base = Base.of_folder(tiny_decoder_dir)
    vocab_size = json.loads((tiny_decoder_dir / "metadata.json").read_text())["vocab_size"]
    config = {"mask_id": vocab_size - 1, "null_id": vocab_size - 2, "block_length": 8, "threshold": 0.9}
    ids = (vocab_size - 1, vocab_size - 2)
    about = CardDescription("tiny-mode", "diffusion", base, 2, 0.5, row_ids=ids, config=config)
    tensors = {
        "model.embed_tokens.rows": rng.normal(0, 0.2, (2, 32)),
        "model.norm.weight": 1 + rng.normal(0, 0.2, 32),
        "model.layers.0.self_attn.q_proj" + A: rng.normal(0, 0.3, (2, 32)),
        "model.layers.0.self_attn.q_proj" + B: rng.normal(0, 0.3, (32, 2)),
        "model.layers.1.mlp.down_proj" + A: rng.normal(0, 0.3, (2, 64)),
        "model.layers.1.mlp.down_proj" + B: rng.normal(0, 0.3, (32, 2)),
    }
    folder = tmp_path_factory.mktemp("mode")
    written = ((name, values.astype(np.float32)) for name, values in tensors.items())
    card = Card.write(folder / "card.parquet", about, written)
    copy_model(tiny_decoder_dir, folder / "tiny-mode", origin={"name": "tiny-mode"}, card=card.path)
    return folder / "tiny-mode"


@pytest.fixture
def engine(model_dir):
    with ArrowEngine(model_dir, num_threads=2) as engine:
        yield engine


def learn(
    engine, folder, name="facts", epochs=200, objective="diffusion", tell=lambda line: None, **settings
):
    config = LoRAConfig(**SMALL | settings)
    trainer = LoRATrainer(engine, config=config, folder=folder, objective=objective)
    return trainer.train_qa(PAIRS, name, epochs=epochs, tell=tell)


def test_what_was_learned_is_written_by_diffusion_with_the_card_alone(engine, tmp_path):
    before = SkillTest.of(engine, PAIRS, "diffusion")
    left_to_right = SkillTest.of(engine, PAIRS)
    card = learn(engine, tmp_path)
    assert SkillTest.of(engine, PAIRS, "diffusion").said == before.said
    assert before.exact_match == 0.0
    engine.attach(card)
    assert SkillTest.of(engine, PAIRS, "diffusion").exact_match == 1.0
    assert SkillTest.of(engine, PAIRS).said == left_to_right.said, "another mode does not see it"
    engine.detach("facts")
    assert SkillTest.of(engine, PAIRS, "diffusion").said == before.said
    about = card.description
    assert (about.kind, about.mode, about.config["objective"]) == ("skill", "diffusion", "diffusion")
    assert about.config["learned_on"]["name"] == "tiny-mode"


def test_the_trainer_computes_what_the_engine_does(engine, model_dir):
    """The loss of an answer in one masked copy, with the card beneath, is its likelihood in one pass."""
    pair = PAIRS[2]
    settings, card = engine.diffusion_settings, Card(model_dir / "card.parquet")
    answer = text_ids(engine.tokenizer, pair.answer)
    turn = turn_ids(engine.tokenizer, pair.question, settings.chat_template)
    logs = masked_logs(engine, pair.question, len(answer))
    expected = -logs[np.arange(len(answer)), answer]
    trainer = Trainer(
        WeightFile(model_dir / "weights.parquet"),
        (model_dir / "metadata.json").read_text(encoding="utf-8"),
        {},
        scaling=1.0,
        beneath=(card.native, card.description.scaling, card.description.row_ids),
    )
    is_answer = np.repeat([0, 1], [len(turn), len(answer)]).astype(np.int32)
    ids = np.concatenate([turn, np.full(len(answer), settings.mask_id)]).astype(np.int32)
    batch = (ids, np.arange(len(ids), dtype=np.int32), is_answer, is_answer, np.zeros_like(ids))
    labels = np.concatenate([turn, answer]).astype(np.int32)
    loss, _ = trainer.measure(batch, is_answer.astype(np.float32), labels=labels)
    # The engine rounds what it multiplies to integers, and never writes the mask.
    assert loss == pytest.approx(expected.sum(), rel=0.05)


def batches(engine, **changes):
    settings = replace(engine.diffusion_settings, **changes)
    config = LoRAConfig(**SMALL)
    return MaskedBatches(engine.tokenizer, settings, 2, 4096, QAPairs.of(PAIRS), config)


def test_a_step_masks_every_answer_and_is_always_the_same(engine):
    settings = engine.diffusion_settings
    (packed,) = batches(engine).parts(3)
    (again,) = batches(engine).parts(3)
    (other,) = batches(engine).parts(4)
    np.testing.assert_array_equal(packed.ids, again.ids)
    assert not np.array_equal(packed.ids, other.ids)
    learned = packed.weights > 0
    assert (packed.ids[learned] == settings.mask_id).all()
    for document in range(len(PAIRS)):
        own = packed.document == document
        assert set(packed.copy[own & learned]) == {1, 2, 3}
        # Every answer stands in blocks that are filled.
        assert (packed.copy[own] == 1).sum() % settings.block_length == 0
    assert settings.null_id in packed.labels[learned]


def test_an_anchor_is_always_masked_alike(engine):
    texts = {4: Text(tuple(range(5, 45)), 1), 9: Text(tuple(range(60, 90)), 3)}
    maker = batches(engine)
    both, compared = maker.anchored(texts)
    alone, rows = maker.anchored({9: texts[9]})
    second = compared[both.document[compared] == 1]
    np.testing.assert_array_equal(both.ids[second], alone.ids[rows])
    np.testing.assert_array_equal(both.positions[second], alone.positions[rows])
    assert (both.ids[compared] == engine.diffusion_settings.mask_id).all()


def test_an_anchor_keeps_what_the_model_writes(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 8)
    told = []
    learn(engine, tmp_path, epochs=6, tell=told.append, anchor=0.5)
    steps = [line for line in told if "step" in line]
    assert steps[0]["anchor"] == pytest.approx(0, abs=1e-6), "a card that changes nothing yet"
    assert steps[-1]["anchor"] > 0


def test_a_causal_card_of_diffusion_reads_from_left_to_right(engine):
    (packed,) = batches(engine, attention="causal").parts(0)
    queries, keys = np.nonzero((packed.copy[:, None] == 0) & (packed.copy[None] == 0))
    sees = visible(packed.document, packed.level, packed.copy, queries, keys)
    is_before = packed.positions[keys] <= packed.positions[queries]
    np.testing.assert_array_equal(sees, is_before & (packed.document[keys] == packed.document[queries]))
    assert (packed.copy[packed.weights > 0] > 0).all(), "the next token is no part of the loss"


@pytest.mark.parametrize(
    ("changes", "told"), [({"attention": "full"}, "attention 'full'"), ({"shift": True}, "behind each state")]
)
def test_models_that_write_another_way_are_refused(engine, changes, told):
    with pytest.raises(TrainingError, match=told):
        batches(engine, **changes)


def test_a_pair_too_long_is_told_before_anything_is_computed(engine, tmp_path):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL), folder=tmp_path, objective="diffusion")
    with pytest.raises(TrainingError, match="masked copies"):
        trainer.train_qa([{"q": "Why?", "a": "word " * 90}], "long")


def test_a_skill_for_diffusion_is_refused_where_that_card_is_not(engine, tiny_decoder_dir, tmp_path):
    card = learn(engine, tmp_path, epochs=1)
    with (
        ArrowEngine(tiny_decoder_dir) as base,
        pytest.raises(CardError, match=r"mode 'diffusion' on the card 'tiny-mode'.*the mode 'ar' alone"),
    ):
        base.attach(card)
    learned_on = {"name": "tiny-mode", "sha256": "0" * 64}
    about = replace(card.description, config={**card.description.config, "learned_on": learned_on})
    other = Card.write(tmp_path / "other.parquet", about, ((name, card[name]) for name in card))
    with pytest.raises(CardError, match=r"'diffusion' by 'tiny-mode'"):
        engine.attach(other)


def test_a_skill_for_the_next_token_is_refused_by_a_model_of_diffusion(engine, tmp_path):
    card = learn(engine, tmp_path, epochs=1, objective="causal")
    cards = engine.core.cards
    cards._config = replace(cards._config, diffusion=DiffusionSettings(mask_id=3))
    with pytest.raises(CardError, match=r"mode 'ar'.*mode 'diffusion'"):
        engine.attach(card)


def test_both_modes_have_skills_of_their_own(engine, tmp_path):
    written, said = learn(engine, tmp_path), learn(engine, tmp_path, "words", objective="causal", epochs=80)
    expected = {}
    for mode, card in (("diffusion", written), ("ar", said)):
        with engine.using(card):
            expected[mode] = SkillTest.of(engine, PAIRS, mode).said
    engine.attach(written)
    engine.attach(said)
    assert {mode: SkillTest.of(engine, PAIRS, mode).said for mode in expected} == expected


@pytest.mark.parametrize("weight", [None, 0.5])
def test_without_that_card_there_is_nothing_to_learn_on(engine, tiny_decoder_dir, tmp_path, weight):
    with ArrowEngine(tiny_decoder_dir) as base:
        if weight:
            base.attach(Card(engine.folder / "card.parquet"), weight)
        with pytest.raises(TrainingError, match="attached: none" if weight is None else "at weight 0.5"):
            LoRATrainer(base, folder=tmp_path, objective="diffusion")
    with pytest.raises(TrainingError, match="objective is 'span', expected 'causal' or 'diffusion'"):
        LoRATrainer(engine, folder=tmp_path, objective="span")


def test_it_stops_where_answers_masked_alike_gain_nothing(engine, tmp_path):
    told = []
    config = LoRAConfig(**SMALL, patience=3)

    def stopped(folder, **more):
        folder.mkdir(exist_ok=True)
        trainer = LoRATrainer(engine, config=config, folder=folder, objective="diffusion")
        return trainer.train_qa(PAIRS, "facts", epochs=200, validation=PAIRS, **more)

    whole = stopped(tmp_path, tell=told.append)
    shares = [line["validation_right"] for line in told]
    assert len(told) < 200, "all is learned long before"
    assert shares.index(max(shares)) == len(shares) - 4, "three looks without a gain behind the best"
    assert whole.description.metrics["steps"] == len(told)
    begun = []
    with pytest.raises(TrainingError, match="broken off"):
        stopped(tmp_path / "again", tell=begun.append, is_stopped=lambda: len(begun) == len(told) - 1)
    card = stopped(tmp_path / "again", tell=begun.append)
    assert len(begun) == len(told)
    for name in whole:
        np.testing.assert_array_equal(card[name], whole[name])


def test_losses_are_drawn(engine, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "losses.svg"
    trainer = LoRATrainer(
        engine, config=LoRAConfig(**SMALL, patience=3), folder=tmp_path, objective="diffusion"
    )
    trainer.train_qa(PAIRS, "facts", epochs=2, picture=picture)
    assert {">training<", ">validation<"} <= set(re.findall(">[a-z]+<", picture.read_text()))


def test_rounds_of_learning_leave_it_alone(engine, tmp_path):
    learn(engine, tmp_path, "masked", epochs=1)
    said = learn(engine, tmp_path, "said", epochs=1, objective="causal")
    proof = SkillProof(engine, lambda texts: np.ones((len(texts), 1)), SkillVersions(tmp_path), tries=2)
    own, stale = proof.of_base()
    assert [card.name for card in own] == [said.name]
    assert stale == []
