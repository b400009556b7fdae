"""Cards act on the torch backend as on the native one, and differ between the texts of a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Card, CardDescription
from ai_os_diffusion.models.cards.description import Base
from ai_os_diffusion.utils.errors import CardError, ShapeError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

TEXTS = ["the quick brown fox", "a", "1 2 3 4 5 6 7 8 9"]
RANK = 3


@pytest.fixture
def engines_of(request):
    """Both backends on a model's folder, native first."""

    def engines(folder: Path) -> list[ArrowEngine]:
        made = [ArrowEngine(folder, device="cpu", backend=backend) for backend in ("native", "torch")]
        request.addfinalizer(lambda: [engine.close() for engine in made])
        return made

    return engines


def write_card(engine: ArrowEngine, folder: Path, name: str, seed: int, rows=(), **changes) -> Card:
    """Factors for every other layer, all norms, token types or rows of the embedding, and a head."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for index, full in enumerate(sorted(name for name in engine.weights if name.endswith("t"))):
        layer, _, part = full.rpartition(".")
        shape = engine.weights[full].shape
        if "orm" in full or "token_type" in full:
            tensors[full] = engine.weights[full] + rng.normal(size=shape).astype(np.float32) * 0.1
        elif part == "weight" and "embed" not in layer and index % 2 == seed % 2:
            tensors[f"{layer}.lora_A.weight"] = rng.normal(size=(RANK, shape[1])).astype(np.float32) * 0.2
            tensors[f"{layer}.lora_B.weight"] = rng.normal(size=(shape[0], RANK)).astype(np.float32) * 0.2
            if index % 3:
                tensors |= scaled(layer, shape[0], rng)
    if rows:
        shape = (len(rows), engine.dimension)
        table = next(
            name
            for name in engine.weights
            if name.endswith(("word_embeddings.weight", "embed_tokens.weight"))
        )
        tensors[table.replace(".weight", ".rows")] = rng.normal(size=shape).astype(np.float32)
    head = f"{name}_score"
    tensors[f"{head}.weight"] = rng.normal(size=(3, engine.dimension)).astype(np.float32)
    tensors[f"{head}.bias"] = rng.normal(size=3).astype(np.float32)
    tensors |= changes.pop("tensors", {})
    base = Base("tiny", engine.metadata.architecture, engine.metadata.source.get("weights_sha256", "0" * 64))
    about = CardDescription(name, "skill", base, RANK, 0.7, row_ids=tuple(rows), heads=(head,))
    return Card.write(folder / f"{name}.parquet", replace(about, **changes), tensors.items())


def scaled(layer: str, outputs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A magnitude and what it makes of the rows of a layer."""
    return {
        f"{layer}.lora_magnitude_vector": np.ones(outputs, np.float32),
        f"{layer}.lora_row_scale": rng.uniform(0.8, 1.2, outputs).astype(np.float32),
    }


def of_the_head(engine: ArrowEngine) -> dict[str, np.ndarray]:
    """Factors of a decoder's head."""
    rng = np.random.default_rng(8)
    return {
        "lm_head.lora_A.weight": rng.normal(size=(RANK, 32)).astype(np.float32) * 0.2,
        "lm_head.lora_B.weight": rng.normal(size=(engine.metadata.vocab_size, RANK)).astype(np.float32),
        **scaled("lm_head", engine.metadata.vocab_size, rng),
    }


def test_an_encoder_with_mixed_cards_embeds_and_scores_as_natively(tiny_encoder_dir, tmp_path, engines_of):
    engines = engines_of(tiny_encoder_dir)
    cards = [write_card(engines[0], tmp_path, name, seed) for seed, name in enumerate(("one", "two"))]
    plain = engines[0].encode(TEXTS)
    for engine in engines:
        engine.attach(cards[0], weight=0.6)
        engine.attach(cards[1], weight=-0.3)
    vectors = [engine.encode(TEXTS) for engine in engines]
    np.testing.assert_allclose(*vectors, atol=2e-5)
    assert np.abs(vectors[0] - plain).max() > 1e-2
    ids, offsets = np.arange(12, dtype=np.int32), np.array([0, 5, 12])
    types = np.array([0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1])
    for given in (None, types):
        scores = [engine.core.head_scores((ids, offsets), "two_score", given) for engine in engines]
        np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-4)
    for engine in engines:
        with pytest.raises(CardError, match='no attached card has a head "three"; heads: '):
            engine.core.head_scores((ids, offsets), "three")
        with pytest.raises(ShapeError, match="pass: 1 token types for 12 ids"):
            engine.core.head_scores((ids, offsets), "one_score", [1])
        with pytest.raises(ShapeError, match="pass: token type 2; the model has 2"):
            engine.core.head_scores((ids, offsets), "one_score", types * 2)


def test_a_decoder_with_mixed_cards_reads_and_writes_as_natively(tiny_decoder_dir, tmp_path, engines_of):
    engines = engines_of(tiny_decoder_dir)
    cards = [
        write_card(engines[0], tmp_path, "one", 0, rows=(3, 9, 200), tensors=of_the_head(engines[0])),
        write_card(engines[0], tmp_path, "two", 1, rows=(9, 40)),
    ]
    ids = np.array([1, 9, 3, 40, 7, 200, 9], np.int32)
    plain = engines[0].core.logits(ids)
    for engine in engines:
        for card in cards:
            engine.attach(card, weight=0.8)
    found = [engine.core.logits(ids) for engine in engines]
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)
    assert np.abs(found[0] - plain)[:, [3, 9, 40, 200]].min() > 1e-4
    texts = [engine.generate(ids, max_tokens=24) for engine in engines]
    assert texts[0].tokens == texts[1].tokens


def test_texts_of_a_step_use_cards_of_their_own(tiny_decoder_dir, tmp_path, engines_of):
    native, engine = engines_of(tiny_decoder_dir)
    cards = [
        write_card(
            native, tmp_path, name, seed, rows=(5 + seed,), tensors=of_the_head(native) if seed else {}
        )
        for seed, name in enumerate("abc")
    ]
    prompts = [np.arange(index, index + 8 + 5 * index, dtype=np.int32) for index in range(8)]

    def session_of(index: int, of: ArrowEngine = engine):
        # Neighbours differ, and every fourth text uses none.
        if index % 4 == 3:
            return of.core.session(96)
        with of.using(cards[index % 4]):
            return of.core.session(96)

    alone = []
    for index, prompt in enumerate(prompts):
        session = session_of(index, native)
        session.prefill(prompt)
        alone.append(session.generate(12))
    sessions = [session_of(index) for index in range(8)]
    type(sessions[0]).prefill_all(sessions, prompts)
    np.testing.assert_array_equal(type(sessions[0]).generate_all(sessions, 12), alone)
    # One card for all, which is the step that is captured.
    same = [session_of(1) for _ in range(3)]
    type(same[0]).prefill_all(same, [prompts[1]] * 3)
    np.testing.assert_array_equal(type(same[0]).generate_all(same, 12), [alone[1]] * 3)


def test_captured_steps_are_apart_by_cards_unless_they_are_many(
    tiny_decoder_dir, tmp_path, engines_of, monkeypatch
):
    _, engine = engines_of(tiny_decoder_dir)
    cards = [write_card(engine, tmp_path, name, seed) for seed, name in enumerate("abcdef")]
    texts = engine.core.backend._texts
    for used in (2, 4, 5, 6):
        sessions = []
        for card in cards[:used]:
            with engine.using(card):
                sessions += [engine.core.session(64) for _ in range(12 // used)]
        sessions.sort(key=lambda session: session.number % 5)
        assert [len(group) for group in texts.batcher.groups(sessions)] == [len(sessions)]
        with monkeypatch.context() as patch:
            patch.setattr(type(texts.device), "captures", True)
            groups = list(texts.batcher.groups(sessions))
        assert len(groups) == (used if used <= 4 else 1)
        for group in groups if used <= 4 else []:
            assert len({session.adapter_number for session in group}) == 1


def test_keys_computed_with_cards_are_apart(tiny_decoder_dir, tmp_path, engines_of):
    _, engine = engines_of(tiny_decoder_dir)
    prompt = np.arange(70, dtype=np.int32)
    card = write_card(engine, tmp_path, "one", 0)
    engine.core.session(96).prefill(prompt)
    with engine.using(card):
        engine.core.session(96).prefill(prompt)
        assert engine.core.prefix_stats()["reused_tokens"] == 0
        engine.core.session(96).prefill(prompt)
    assert engine.core.prefix_stats()["reused_tokens"] == 64


def test_cards_that_do_not_fit_are_refused_in_the_words_of_the_native_core(
    tiny_decoder_dir, tiny_encoder_dir, tmp_path, engines_of
):
    wide = np.ones((RANK, 33), np.float32)
    tall = np.ones((32, RANK), np.float32)
    layer = "model.layers.0.self_attn.o_proj"
    faults = {
        "names": {"tensors": {"model.other.weight": np.ones(4, np.float32)}},
        "layers": {"tensors": {"model.x.lora_A.weight": wide, "model.x.lora_B.weight": tall}},
        "shapes": {"tensors": {f"{layer}.lora_A.weight": wide, f"{layer}.lora_B.weight": tall}},
        "norms": {"tensors": {"model.norm.weight": np.ones(31, np.float32)}},
        "rows": {"rows": (5, 261)},
    }
    engines = engines_of(tiny_decoder_dir)
    for name, changes in faults.items():
        card = write_card(engines[0], tmp_path, name, 0, **changes)
        said = []
        for engine in engines:
            with pytest.raises(CardError) as raised:
                engine.attach(card)
            said.append(str(raised.value))
            assert engine.attached == {}
        assert said[1] == said[0]
    encoders = engines_of(tiny_encoder_dir)
    card = write_card(encoders[0], tmp_path, "embedding", 0, rows=(1,))
    for engine in encoders:
        with pytest.raises(
            CardError, match="replaces rows of the embedding, which of an encoder stays as it is"
        ):
            engine.attach(card)


def test_settings_of_a_sampler_are_told():
    sampler = _native.Sampler(
        temperature=0.5, top_k=3, top_p=0.25, min_p=0.125, repetition_penalty=1.5, seed=9
    )
    assert sampler.settings == (0.5, 3, 0.25, 0.125, 1.5)
    again = _native.Sampler(seed=9)
    drawn = sampler.draws(4)
    np.testing.assert_array_equal(drawn, [*again.draws(3), *again.draws(1)])
    assert ((drawn >= 0) & (drawn < 1)).all()
