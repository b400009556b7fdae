"""Cards attached to an engine act, mix, give way and leave the base to the last bit."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion._native import WeightWriter
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Card, CardDescription
from ai_os_diffusion.models.cards.description import Base
from ai_os_diffusion.utils.errors import CardError

TEXTS = ["the quick brown fox", "a", "1 2 3 4 5 6 7 8 9"]


def card_for(engine: ArrowEngine, folder: Path, name: str, seed: int, head: str = "score", **changes) -> Card:
    """Factors for every matrix of the engine's blocks, a norm and a head."""
    rng = np.random.default_rng(seed)
    tensors, rank = {}, 4
    for full in engine.weights:
        layer, _, part = full.rpartition(".")
        shape = engine.weights[full].shape
        if part == "weight" and len(shape) == 2 and "embed" not in layer:
            tensors[f"{layer}.lora_A.weight"] = rng.normal(size=(rank, shape[1])).astype(np.float32) * 0.2
            tensors[f"{layer}.lora_B.weight"] = rng.normal(size=(shape[0], rank)).astype(np.float32) * 0.2
    tensors[f"{head}.weight"] = rng.normal(size=(3, engine.dimension)).astype(np.float32)
    digest = engine.metadata.source.get("weights_sha256", "0" * 64)
    base = Base("tiny", engine.metadata.architecture, digest)
    description = CardDescription(name, "skill", base, rank, 1.0, heads=(head,))
    return Card.write(folder / f"{name}.parquet", replace(description, **changes), tensors.items())


def test_a_card_acts_and_leaves_nothing(tiny_encoder_dir: Path, tmp_path: Path, backend) -> None:
    with ArrowEngine(tiny_encoder_dir, backend=backend, device="cpu") as engine:
        before = engine.encode(TEXTS)
        first = card_for(engine, tmp_path, "first", 1)
        engine.attach(first)
        alone = engine.encode(TEXTS)
        assert np.abs(alone - before).max() > 1e-3
        assert engine.attached == {"first": 1.0}
        ids = engine.tokenizer.encode(TEXTS[0], padding=False).flat_ids
        scores = engine.core.head_scores((ids, np.array([0, len(ids)])), "score")
        assert scores.shape == (len(ids), 3)
        engine.detach("first")
        np.testing.assert_array_equal(engine.encode(TEXTS), before)
        engine.attach(first.path, weight=0.0)
        np.testing.assert_array_equal(engine.encode(TEXTS), before)
        engine.detach("first")
        with pytest.raises(CardError, match="no card is attached"):
            engine.core.head_scores((ids, np.array([0, len(ids)])), "score")


def test_using_acts_in_its_block_and_thread_alone(tiny_decoder_dir: Path, tmp_path: Path, backend) -> None:
    with (
        ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine,
        ThreadPoolExecutor(1) as other,
    ):
        prompt = "the quick brown fox " * 3
        plain = engine.generate(prompt, max_tokens=8)
        card = card_for(engine, tmp_path, "skill", 2)
        with engine.using(card):
            carded = engine.generate(prompt, max_tokens=8)
            elsewhere = other.submit(lambda: engine.generate(prompt, max_tokens=8)).result()
        after = engine.generate(prompt, max_tokens=8)
        engine.attach(card)
        attached = engine.generate(prompt, max_tokens=8)
    assert plain.logprobs == elsewhere.logprobs == after.logprobs
    assert carded.logprobs == attached.logprobs != plain.logprobs


def test_a_card_that_is_used_again_finds_what_was_computed_with_it(
    tiny_decoder_dir: Path, tmp_path: Path, backend
) -> None:
    with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
        card, prompt = card_for(engine, tmp_path, "skill", 2), np.arange(80, dtype=np.int32)
        found = []
        for weight in (1.0, 0.5, 1.0):
            with engine.using(card, weight):
                found.append(engine.generate(prompt, max_tokens=4).tokens)
        # Torch takes over whole pages.
        assert engine.stats["prefix_cache"]["reused_tokens"] == (79 if backend == "native" else 64)
    assert found[0] == found[2]


def test_a_block_within_a_block_uses_both_cards(tiny_encoder_dir: Path, tmp_path: Path, backend) -> None:
    with ArrowEngine(tiny_encoder_dir, backend=backend, device="cpu") as engine:
        first = card_for(engine, tmp_path, "first", 1)
        second = card_for(engine, tmp_path, "second", 2, head="other")
        with engine.using(first):
            alone = engine.encode(TEXTS)
            with engine.using(second):
                both = engine.encode(TEXTS)
                with pytest.raises(CardError, match="'first' is attached"), engine.using(first):
                    pass
            np.testing.assert_array_equal(engine.encode(TEXTS), alone)
        engine.attach(first)
        engine.attach(second)
        np.testing.assert_array_equal(engine.encode(TEXTS), both)
        assert np.abs(both - alone).max() > 1e-3


def test_what_does_not_belong_is_refused_and_the_engine_goes_on(
    tiny_encoder_dir: Path, tiny_decoder_dir: Path, tmp_path: Path, backend
) -> None:
    folder = shutil.copytree(tiny_encoder_dir, tmp_path / "encoder")
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    metadata["source"] = {"name": "tiny", "weights_sha256": "a" * 64}
    (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    on = {"backend": backend, "device": "cpu"}
    with ArrowEngine(folder, **on) as engine, ArrowEngine(tiny_decoder_dir, **on) as decoder:
        before = engine.encode(TEXTS)
        own = card_for(engine, tmp_path, "own", 3)
        engine.attach(own)
        expected = engine.encode(TEXTS)
        with pytest.raises(CardError, match="'own' is attached; detach it first"):
            engine.attach(own)
        with pytest.raises(CardError, match="'other' is not attached; attached: own"):
            engine.detach("other")
        with pytest.raises(CardError, match="attach it to its own base"):
            engine.attach(card_for(decoder, tmp_path, "foreign", 4))
        wrong = Base("tiny", engine.metadata.architecture, "f" * 64)
        with pytest.raises(CardError, match="weights ffffffffffff"):
            engine.attach(card_for(engine, tmp_path, "wrong", 5, base=wrong))
        with pytest.raises(CardError, match="weight is nan"):
            engine.attach(card_for(engine, tmp_path, "heavy", 6), weight=float("nan"))
        with pytest.raises(CardError, match='has a head "score", as another card has'):
            engine.attach(card_for(engine, tmp_path, "twin", 7))
        assert engine.attached == {"own": 1.0}
        np.testing.assert_array_equal(engine.encode(TEXTS), expected)
        engine.detach("own")
        np.testing.assert_array_equal(engine.encode(TEXTS), before)


def test_scales_of_rows_are_those_of_the_base_and_the_card_as_stored(
    tiny_decoder_dir: Path, tmp_path: Path, backend
) -> None:
    with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
        ids = np.arange(3, 40, dtype=np.int32)
        card, weights = card_for(engine, tmp_path, "skill", 2), dict(engine.weights.items())
        lengths = {
            f"{layer}.lora_magnitude_vector": 1.5 * np.linalg.norm(weights[f"{layer}.weight"], axis=1)
            for layer in card.layers
        }
        tensors = [*((name, card[name]) for name in card), *lengths.items()]
        scaled = Card.write(
            tmp_path / "scaled.parquet",
            replace(card.description, name="scaled"),
            tensors,
            weight_of=lambda layer: np.array(weights[f"{layer}.weight"]),
        )
        for layer in card.layers:
            whole = (
                weights[f"{layer}.weight"] + card[f"{layer}.lora_B.weight"] @ card[f"{layer}.lora_A.weight"]
            )
            expected = lengths[f"{layer}.lora_magnitude_vector"] / np.linalg.norm(whole, axis=1)
            np.testing.assert_allclose(scaled[f"{layer}.lora_row_scale"], expected, rtol=1e-5)
        plain = engine.core.logits(ids)
        with engine.using(scaled):
            alone = engine.core.logits(ids)
        assert np.abs(alone - plain).max() > 1e-2
        np.testing.assert_array_equal(engine.core.logits(ids), plain)


FAULTS = {
    "nan": "numbers that are not finite",
    "no second factor": "has no lora_B",
    "another rank": r"has factors \[3, 32\] and \[32, 4\]",
    "another width": "does not fit this model",
    "unknown layer": "which the model does not have",
    "unknown tensor": "nothing of that name to change",
    "another norm": "does not fit this model",
    "rank of the description": "the description says rank 9",
}


def damaged(engine: ArrowEngine, card: Card, folder: Path, fault: str) -> Path:
    """The card's file as another program might write it, with a fault."""
    tensors = {name: card[name] for name in card}
    first = next(name for name in tensors if name.endswith(".lora_A.weight"))
    layer = first.removesuffix(".lora_A.weight")
    about = json.loads(card.native.metadata["card"])
    width = engine.dimension
    if fault == "nan":
        tensors[first] = np.full_like(tensors[first], np.nan)
    elif fault == "no second factor":
        del tensors[f"{layer}.lora_B.weight"]
    elif fault == "another rank":
        tensors[first] = tensors[first][:-1]
    elif fault == "another width":
        tensors[first] = np.ones((4, width + 1), np.float32)
    elif fault == "unknown layer":
        for part in "AB":
            tensors[f"no.such.lora_{part}.weight"] = tensors.pop(f"{layer}.lora_{part}.weight")
    elif fault == "unknown tensor":
        tensors["no.such.norm.weight"] = np.ones(width, np.float32)
    elif fault == "another norm":
        norm = next(name for name in engine.weights if name.lower().endswith("norm.weight"))
        tensors[norm] = np.ones(width - 1, np.float32)
    else:
        about["rank"] = 9
    path = folder / "damaged.parquet"
    writer = WeightWriter(path, {"card": json.dumps(about)})
    for name, numbers in tensors.items():
        writer.add_plain(name, np.ascontiguousarray(numbers))
    writer.finish()
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_card_is_refused_by_name_and_the_engine_goes_on(
    tiny_encoder_dir: Path, tmp_path: Path, fault: str, backend: str
) -> None:
    with ArrowEngine(tiny_encoder_dir, backend=backend) as engine:
        card = card_for(engine, tmp_path, "mine", 8)
        before = engine.encode(TEXTS)
        path = damaged(engine, card, tmp_path, fault)
        with pytest.raises(CardError, match=FAULTS[fault]):
            engine.attach(path)
        with pytest.raises(CardError, match=FAULTS[fault]), engine.using(path):
            pass
        assert engine.attached == {}
        np.testing.assert_array_equal(engine.encode(TEXTS), before)
        engine.attach(card)
        carded = engine.encode(TEXTS)
        assert np.abs(carded - before).max() > 1e-3
        engine.detach("mine")
        np.testing.assert_array_equal(engine.encode(TEXTS), before)
