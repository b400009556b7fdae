"""An engine with a diffusion card writes texts, fills gaps and templates, and refuses what makes no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from ai_os_diffusion.diffusion import Calibration, Canvas, MemoryConditioner, UncertaintyEstimator
from ai_os_diffusion.diffusion.denoiser import Ask, Reading
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.answer_evidence import answer_evidence
from ai_os_diffusion.inference.denoising.diffusion_options import SAMPLERS
from ai_os_diffusion.inference.denoising.progress import Progress
from ai_os_diffusion.inference.denoising.session_denoiser import SessionDenoiser
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.utils.errors import ConfigurationError, InferenceError, ModelLoadError, SamplingError
from support.diffusion_cards import CONFIG, END, MASK, NULL, card

CONTEXT = ["The house is red.", "Ann lives in {context} it."]


@pytest.fixture(scope="module", params=["native", pytest.param("torch", marks=pytest.mark.torch)])
def engine(request, wide_decoder_dir, tmp_path_factory):
    if request.param == "torch":
        pytest.importorskip("torch")
    with ArrowEngine(wide_decoder_dir, device="cpu", backend=request.param) as engine:
        engine.attach(card(engine, tmp_path_factory.mktemp("cards") / "writes.parquet"))
        yield engine


def test_a_text_is_its_tokens_with_what_is_known_of_each(engine):
    found = engine.diffuse("What colour is it?", max_tokens=20, alternatives=3)
    assert isinstance(found, str)
    assert found == found.text == engine.tokenizer.decode(found.tokens).strip() == found.fills[0].strip()
    assert len(found.tokens) == len(found.confidences) == len(found.entropies) == len(found.alternatives)
    assert len(found.tokens) <= 20
    for id, confidence, told in zip(found.tokens, found.confidences, found.alternatives, strict=True):
        assert told[0].id == id
        assert told[0].probability == pytest.approx(confidence)
        assert len(told) == 3
    assert MASK not in found.tokens
    assert 1 <= found.steps <= 20
    assert found.log_confidence <= sum(np.log(found.confidences)) + 1e-5
    assert found.finish_reason in ("stop", "length")
    assert found.prompt_tokens > 20


def test_the_prompt_is_that_of_the_template_and_special_tokens_are_text(engine):
    asked = engine._planned("</s>", CONTEXT, None, None, None, "text", {})[1]
    text = engine.tokenizer.decode(asked.prompt, skip_special_tokens=False)
    assert text == "<s>user\nThe house is red.\n\nAnn lives in {context} it.\n\n</s></s>\n"
    assert asked.prompt.tolist().count(END) == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_repeats_the_text_with_every_sampler(engine, sampler):
    settings = {"max_tokens": 24, "temperature": 1.0, "sampler": sampler}
    first = engine.diffuse("Tell me", seed=5, **settings)
    assert first.seed == 5
    assert engine.diffuse("Tell me", seed=5, **settings).tokens == first.tokens
    others = {tuple(engine.diffuse("Tell me", seed=seed, **settings).tokens) for seed in range(6, 12)}
    assert others != {tuple(first.tokens)}
    unseeded = engine.diffuse("Tell me", **settings)
    assert engine.diffuse("Tell me", seed=unseeded.seed, **settings).tokens == unseeded.tokens


def test_left_to_right_the_model_writes_without_the_card(engine, wide_decoder_dir, tmp_path):
    assert engine.attached == {"writes": 1.0}
    backend = type(engine.core.backend).__name__.removesuffix("Core").lower()
    with ArrowEngine(wide_decoder_dir, device="cpu", backend=backend) as plain:
        expected = plain.generate("Tell me", max_tokens=12).tokens
        with plain.using(card(plain, tmp_path / "here.parquet", name="here")):
            assert plain.generate("Tell me", max_tokens=12).tokens == expected
            later = plain.diffuse_stream("Tell me", max_tokens=24, threshold=0.05, seed=1)
        # What was in use when it was called, though the block has ended.
        assert [step.ids.tolist() for step in later]
    assert engine.generate("Tell me", max_tokens=12).tokens == expected
    assert later.diffusion.tokens == engine.diffuse("Tell me", max_tokens=24, threshold=0.05, seed=1).tokens


def test_a_calibration_says_how_likely_a_text_is_wrong(wide_decoder_dir, tmp_path):
    told = {"bias": 0.5, "features": {"surprise": {"mean": 1.0, "scale": 2.0, "weight": 1.5}}}
    with ArrowEngine(wide_decoder_dir, device="cpu") as plain:
        assert plain.attached == {}
        with plain.using(card(plain, tmp_path / "a.parquet")):
            first = plain.diffuse("Tell me", context="It is red.", max_tokens=8)
            assert first.uncertainty is None
        with plain.using(card(plain, tmp_path / "b.parquet", {**CONFIG, "uncertainty": told})):
            found = plain.diffuse("Tell me", context="It is red.", max_tokens=8)
            assert plain.diffuse("Tell me", max_tokens=8).uncertainty is None
            assert plain.diffuse(template={"a": str}, context="It is red.").uncertainty is None
        assert found.tokens == first.tokens
        assert found.uncertainty == UncertaintyEstimator(Calibration.of(told))(found.trajectory)
        odds = 0.5 + 1.5 * (np.log1p(-found.log_confidence) - 1.0) / 2.0
        assert found.uncertainty == pytest.approx(1 / (1 + np.exp(-odds)))
        for config in ({"uncertainty": 3}, {"uncertainty": {"bias": 1}}):
            with (
                plain.using(card(plain, tmp_path / "c.parquet", {**CONFIG, **config})),
                pytest.raises((ModelLoadError, ConfigurationError), match=r"uncertainty|calibration"),
            ):
                plain.diffuse("Tell me")


def test_what_is_written_behind_nothing_is_of_no_value(engine):
    diffuser, plan, _ = engine._planned("?", None, None, {"a": str, "b": int}, None, "text", {})
    canvas = Canvas(plan.blocks[0], MASK)
    (first, _), (second, end) = plan.gaps
    canvas.ids[canvas.is_open] = NULL
    digits = [engine.tokenizer.encode(text, padding=False).flat_ids[-1] for text in "7143"]
    canvas.ids[[first, first + 1]] = digits[:2]
    canvas.ids[[second, second + 1, second + 3, end - 1]] = digits
    canvas.is_open[:] = False
    progress = Progress(plan, 0)
    progress.written.canvases.append(canvas)
    assert [fill.strip() for fill in diffuser._fills(progress)] == ["71", "71"]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sampler", [None, "factor", "entropy_bound"])
def test_an_extractive_answer_stands_in_the_context(engine, seed, sampler):
    settings = {"extractive": True, "sampler": sampler, "temperature": 2.0, "seed": seed, "max_tokens": 8}
    for context in ('The house (1904) is red.\nAnn lives in it; "Bo" does not.', CONTEXT):
        found = engine.diffuse("What colour is it?", context=context, **settings)
        whole = context if isinstance(context, str) else "\n\n".join(context)
        assert found.fills[0] in whole
        assert found.text
        assert whole[max(0, whole.index(found.fills[0]) - 1)] not in "abcdefghijklmnopqrstuvwxyz"
    alone = engine.diffuse("What?", context="Red", extractive=True)
    assert "Red".startswith(alone.text)


def test_an_answer_tells_whether_it_stands_in_its_context(wide_decoder_dir, tmp_path):
    told = {**CONFIG, "declines": "Red", "verdicts": ["Yes: "]}
    told["uncertainty"] = {"bias": 0.0, "features": {"quoted": {"mean": 0.5, "scale": 0.5, "weight": -2.0}}}
    with ArrowEngine(wide_decoder_dir, device="cpu") as plain, plain.using(card(plain, tmp_path / "a", told)):
        held = plain.diffuse("?", context="no", extractive=True, may_decline=False)
        declined = plain.diffuse("?", context="red", extractive=True)
        free = plain.diffuse("?", context="never")
        assert {*held.evidence.values(), held.evidence["quoted"]} == {0.0, 1.0}
        assert free.evidence == {"quoted": 0.0, "declined": 0.0}
        assert held.uncertainty < 0.2 < 0.8 < free.uncertainty
        assert declined.evidence["declined"] == float(declined.casefold() == "red")
        assert plain.diffuse("?").evidence == {}
        for text, quoted in (("a dog", 1.0), ("a dog; a cow", 0.5), ("Yes: A cat", 1.0), ("Yes: ", 0.0)):
            found = answer_evidence(text, "A dog. A cat.", plain.diffusion_settings)
            assert found == {"quoted": quoted, "declined": 0.0}


def test_an_extractive_answer_may_decline_where_the_model_knows_how(wide_decoder_dir, tmp_path):
    with ArrowEngine(wide_decoder_dir, device="cpu") as plain:
        told = {**CONFIG, "declines": "not said", "block_length": 12}
        with plain.using(card(plain, tmp_path / "a.parquet", told)):
            settings = {"context": "A B", "extractive": True, "temperature": 30.0}
            said = {str(plain.diffuse("What?", seed=seed, **settings)) for seed in range(60)}
            held = {
                str(plain.diffuse("What?", seed=seed, may_decline=False, **settings)) for seed in range(9)
            }
    assert "not said" in said
    assert said <= {"not said", "A", "A B", "B"}
    assert held <= {"A", "A B", "B"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context": None}, "extractive holds an answer to spans of its context"),
        ({"infill": "a {} b"}, "extractive holds an answer to spans of its context"),
        ({"context": "..."}, "holds no word"),
        ({"max_tokens": 40}, "extractive writes one block"),
        ({"num_steps": 4}, "extractive decides how many tokens"),
        ({"sampler": "remdm"}, "extractive decides how many tokens"),
        ({"extractive": False, "may_decline": False}, "may_decline belongs to extractive"),
    ],
)
def test_extractive_needs_what_it_holds_to(engine, given, message):
    with pytest.raises(SamplingError, match=message):
        engine.diffuse("What?", **{"context": "The house is red.", "extractive": True, **given})


def test_memory_guides_a_text(engine):
    class Found(NamedTuple):
        text: str
        similarity: float

    hits = [Found("The house is red.", 0.9), Found("It is old.", 0.5)]
    with pytest.raises(InferenceError, match="has no memory"):
        engine.diffuse("What colour?", memory_guided=True)
    engine.conditioner = MemoryConditioner(lambda _query, _most: hits, count=len)
    try:
        found = engine.diffuse("What colour?", memory_guided=True, max_tokens=8, seed=1)
        told = engine.diffuse(
            "What colour?", context=["It is old.", "The house is red."], max_tokens=8, seed=1
        )
        assert (found.tokens, found.memories) == (told.tokens, tuple(hits))
        assert told.memories == ()
        guided = engine.diffuse("What colour?", memory_guided=True, max_tokens=8, guidance_scale=3.0)
        scaled = engine.diffuse(
            "What colour?",
            context=["It is old.", "The house is red."],
            max_tokens=8,
            guidance_scale=1 + 2 * 0.9,
        )
        assert guided.tokens == scaled.tokens
        with pytest.raises(SamplingError, match="context and memory_guided"):
            engine.diffuse("What colour?", context="x", memory_guided=True)
        with pytest.raises(SamplingError, match="memory_guided looks for passages"):
            engine.diffuse(infill="a {} b", memory_guided=True)
        hits.clear()
        alone = engine.diffuse("What colour?", memory_guided=True, max_tokens=8, seed=1)
        assert alone.tokens == engine.diffuse("What colour?", max_tokens=8, seed=1).tokens
    finally:
        engine.conditioner = None


@pytest.mark.parametrize("steps", [3, 7, 24])
def test_so_many_steps_are_taken(engine, steps):
    found = engine.diffuse("Tell me", max_tokens=24, num_steps=steps)
    assert found.steps == steps or found.finish_reason == "stop"


def test_a_stream_tells_the_text_as_it_is_written(engine):
    stream = engine.diffuse_stream("Tell me", max_tokens=24, threshold=0.05, seed=1)
    shown = [None] * 24
    for number, step in enumerate(stream, 1):
        assert step.step == number
        for position, token in zip(step.positions.tolist(), step.tokens, strict=True):
            shown[position] = token
        assert shown == step.canvas
        assert len(stream.diffusion.tokens) <= sum(one is not None for one in shown)
    whole = stream.diffusion
    assert whole.tokens == engine.diffuse("Tell me", max_tokens=24, threshold=0.05, seed=1).tokens
    assert whole.finish_reason in ("stop", "length")
    broken = engine.diffuse_stream("Tell me", max_tokens=24, num_steps=24)
    next(broken)
    assert broken.diffusion.finish_reason == "abandoned"


def test_gaps_are_filled_and_given_text_stays(engine):
    text = "Ann has {} cats and\n {}</s>dogs"
    found = engine.diffuse(infill=text, max_fill=5)
    before, _, rest = text.partition("{}")
    assert found.startswith(before)
    assert found.endswith(rest.rpartition("{}")[2])
    assert found.count(" cats and\n ") == 1
    assert len(found.fills) == 2
    # One pass tells how long the gaps are; then one a token.
    assert found.steps == 1 + len(found.tokens)
    assert engine.diffuse("About Ann", infill=text, max_fill=5, num_steps=2).steps == 2


FORM = {
    "name": str,
    "age": int,
    "height": float,
    "tall": bool,
    "tags": list[str],
    "size": ("small", "large"),
    "year": int | None,
}


@pytest.mark.parametrize("seed", range(25))
def test_a_template_always_gives_values_of_its_types(engine, seed):
    found = engine.diffuse(
        template=FORM, context=CONTEXT, temperature=1.5, seed=seed, num_steps=1 + seed, max_fill=6
    )
    assert json.loads(found) == found.value
    kinds = {name: type(value) for name, value in found.value.items()}
    year = kinds.pop("year")
    assert kinds == {"name": str, "age": int, "height": float, "tall": bool, "tags": list, "size": str}
    assert year in (int, type(None))
    assert found.value["size"] in FORM["size"]


def test_guidance_changes_the_text_and_one_does_not(engine):
    plain = engine.diffuse("What?", context=CONTEXT, max_tokens=16, seed=1)
    assert engine.diffuse("What?", context=CONTEXT, max_tokens=16, guidance_scale=1.0).tokens == plain.tokens
    guided = engine.diffuse("What?", context=CONTEXT, max_tokens=16, guidance_scale=6.0)
    assert guided.tokens != plain.tokens
    assert engine.diffuse("What?", max_tokens=16, guidance_scale=6.0).tokens != plain.tokens


@pytest.mark.torch
def test_both_backends_write_the_same(engine, wide_decoder_dir, tmp_path):
    pytest.importorskip("torch")
    with ArrowEngine(wide_decoder_dir, device="cpu", backend="torch") as other:
        other.attach(card(other, tmp_path / "writes.parquet"))
        for seed in range(4):
            settings = {
                "max_tokens": 24,
                "seed": seed,
                "temperature": float(seed),
                "guidance_scale": 1.0 + seed,
            }
            first = engine.diffuse("Tell me", **settings)
            assert other.diffuse("Tell me", **settings).tokens == first.tokens
            form = {"template": FORM, "context": CONTEXT, "seed": seed, "max_fill": 6}
            assert other.diffuse(**form) == engine.diffuse(**form)


def whole(core, ids):
    """Logits of a text in which every position sees every other."""
    session = core.session(len(ids), core.cards.in_use("diffusion"))
    rows = np.arange(len(ids))
    return session.predict(np.array(ids, np.int32), rows, logits=True)[5]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("prompt", [[], [7, 8, 9, 10, 11]])
def test_where_all_sees_all_a_pass_reads_the_whole_text(engine, shift, prompt):
    """LLaDA, and Dream, which reads one row before: a pass over prompt, block and what is open behind it."""
    core = engine.core
    settings = DiffusionSettings(MASK, attention="full", shift=shift, block_length=4)
    denoiser = SessionDenoiser(core, core.cards.in_use("diffusion"), settings, frozenset([END]))
    (text,) = denoiser.read([Reading(np.array(prompt, np.int32), 8, top_k=2)])

    block = np.array([MASK, 30, MASK, MASK], np.int32)
    (found,) = denoiser.predict([Ask(text, block, np.array([0, 2, 3]))])
    logits = whole(core, [*prompt, *block, *[MASK] * 4])
    logits[:, MASK] = -np.inf
    rows = np.array([0, 2, 3]) + len(prompt)
    rows = np.maximum(rows - 1, 0) if shift else rows
    assert found.ids.tolist() == logits[rows].argmax(-1).tolist()
    assert found.top_ids.shape == (3, 2)
    denoiser.append([text], [block])
    (found,) = denoiser.predict([Ask(text, np.full(4, MASK, np.int32), np.array([0]))])
    logits = whole(core, [*prompt, *block, *[MASK] * 4])
    logits[:, MASK] = -np.inf
    assert found.ids[0] == logits[len(prompt) + 4 - shift].argmax(-1)


@pytest.mark.parametrize("attention", ["prefix", "block"])
def test_a_shifted_block_begins_with_what_the_text_before_predicts(engine, attention):
    core = engine.core
    settings = DiffusionSettings(MASK, attention=attention, shift=True, block_length=4)
    denoiser = SessionDenoiser(core, core.cards.in_use("diffusion"), settings, frozenset([END]))
    prompt = np.arange(10, 18, dtype=np.int32)
    (text,) = denoiser.read([Reading(prompt, 8)])

    block = np.full(4, MASK, np.int32)
    (found,) = denoiser.predict([Ask(text, block, np.array([0, 1, 3]))])
    session = core.session(32, core.cards.in_use("diffusion"))
    parts = [prompt] if attention == "prefix" else [prompt[:4], prompt[4:]]
    for part in parts[:-1]:
        session.prefill(part, causal=False)
    (first,) = session.predict(parts[-1], np.array([len(parts[-1]) - 1]), forbidden=[MASK])[0]
    session.prefill(parts[-1], causal=False)
    rest = session.predict(block, np.array([0, 2]), forbidden=[MASK])[0]
    assert found.ids.tolist() == [first, *rest]
    (turned,) = denoiser.predict([Ask(text, block, np.array([3, 0, 1]))])
    assert turned.ids.tolist() == [rest[1], first, rest[0]]
    (alone,) = denoiser.predict([Ask(text, block, np.array([0]))])
    assert alone.ids.tolist() == [first]


def test_blocks_are_counted_from_the_beginning_of_the_text(wide_decoder_dir, tmp_path):
    with ArrowEngine(wide_decoder_dir, device="cpu") as engine:
        config = {**CONFIG, "attention": "block", "block_length": 8}
        engine.attach(card(engine, tmp_path / "block.parquet", config))
        for question in ("abc", "abcd", "abcdefgh"):
            _, plan, _ = engine._planned(question, None, None, None, None, "text", {"max_tokens": 20})
            assert len(plan.prompt) % 8 == 0
            assert [len(block) for block in plan.blocks] == [8] * len(plan.blocks)
            ((begin, end),) = plan.gaps
            assert end - begin == 20
            assert int((plan.blocks[0] == MASK).argmax()) == begin
            found = engine.diffuse(question, max_tokens=20, num_steps=20)
            assert found == engine.tokenizer.decode(found.tokens).strip()
            assert question not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected a prompt, messages, infill or template"),
        ({"prompt": "a", "num_steps": 0}, "num_steps is 0, expected a whole number of 1 or more"),
        ({"prompt": "a", "num_steps": 9}, "num_steps is 9, expected at most 8, the positions to be written"),
        ({"prompt": "a", "num_steps": 2, "max_tokens": 24}, "num_steps is 2, and 3 blocks are written"),
        ({"prompt": "a", "num_steps": 2, "threshold": 0.5}, "takes as many passes as it takes"),
        ({"prompt": "a", "num_steps": 2, "sampler": "factor"}, "'factor' takes as many passes"),
        ({"prompt": "a", "sampler": "best"}, "sampler is 'best', expected one of threshold, factor"),
        ({"prompt": "a", "sampler": "factor", "threshold": 0.5}, "threshold belongs to the sampler"),
        ({"prompt": "a", "modality": "image"}, "modality is 'image', expected one of text"),
        (
            {"prompt": "a", "max_tokens": 5000},
            r"the prompt has \d+ tokens and 5000 are to be written, .* sees 1024",
        ),
        ({"prompt": "a" * 1500}, r"the prompt has 15\d\d tokens and 8 are to be written"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens is -1"),
        ({"prompt": "a", "block_length": 1.5}, "block_length is 1.5"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature is nan"),
        ({"prompt": "a", "guidance_scale": -1}, "guidance_scale is -1"),
        ({"prompt": "a", "seed": -1}, "seed is -1"),
        ({"prompt": "a", "alternatives": -1}, "alternatives is -1"),
        ({"prompt": "a", "max_fill": 3}, "max_fill belongs to infill and template"),
        ({"infill": "a {}", "max_tokens": 3}, "max_tokens is for a text without gaps"),
        ({"infill": "no gaps"}, "expected a text with {}"),
        ({"infill": "a {}", "template": {"a": str}}, "two canvases"),
        ({"template": {"a": bytes}, "prompt": "x"}, "expected str, int"),
        ({"prompt": [{"role": "user", "content": "a"}], "context": "b"}, "context belongs to a question"),
    ],
)
def test_calls_without_meaning_are_refused_and_the_engine_goes_on(engine, arguments, message):
    with pytest.raises(SamplingError, match=message):
        engine.diffuse(**arguments)
    assert isinstance(engine.diffuse("a", num_steps=1), str)


def test_an_engine_without_the_card_says_what_it_lacks(wide_decoder_dir, tmp_path):
    with ArrowEngine(wide_decoder_dir, device="cpu") as engine:
        with pytest.raises(InferenceError, match="with one card of kind 'diffusion'; attached: none"):
            engine.diffuse("a")
        first, second = (card(engine, tmp_path / f"{name}.parquet", name=name) for name in ("one", "two"))
        with engine.using(first), engine.using(second), pytest.raises(InferenceError, match="one, two"):
            engine.diffuse("a")
        for config, message in [
            ({}, "names no mask_id"),
            ({"mask_id": 261}, "mask_id is 261, expected a whole number from 0 to 260"),
            (
                {**CONFIG, "attention": "sideways"},
                "attention is 'sideways', expected 'prefix', 'causal', 'full' or 'block'",
            ),
            ({**CONFIG, "question": "{question}"}, "question is '{question}', expected a text with"),
            ({**CONFIG, "threshold": 2}, "threshold is 2"),
        ]:
            bad = card(engine, tmp_path / "bad.parquet", config, name="bad")
            with engine.using(bad), pytest.raises(ModelLoadError, match=message):
                engine.diffuse("a")
            (tmp_path / "bad.parquet").unlink()


def test_settings_are_what_a_card_says():
    told = DiffusionSettings.of({**CONFIG, "shift": True, "end_ids": [1, 2]}, "card", 261)
    assert told == replace(
        DiffusionSettings(MASK), null_id=NULL, block_length=8, threshold=0.02, shift=True, end_ids=(1, 2)
    )
