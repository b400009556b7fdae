"""Adapters of the peft that is installed give the logits that it gives itself, and it reads ours alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import convert_card, export_peft
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import CardError, ModelLoadError
from support.loopback_hub import FILES

peft = pytest.importorskip("peft")

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

VOCAB = 40
IDS = np.arange(1, 31, dtype=np.int32)
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "some": {"target_modules": ["q_proj", "down_proj"], "lora_alpha": 3},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"layers.0.self_attn.q_proj": 3, "down_proj": 7},
        "alpha_pattern": {"k_proj": 11, "layers.1.mlp.up_proj": 2},
    },
    "patterns, rslora": {"use_rslora": True, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 5}},
    "head": {"target_modules": [*PROJECTIONS, "lm_head"]},
    "dora": {"use_dora": True},
    "dora, patterns": {
        "use_dora": True,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 3},
        "alpha_pattern": {"k_proj": 11},
    },
    "dora, head": {"use_dora": True, "target_modules": [*PROJECTIONS, "lm_head"]},
    "norms": {"modules_to_save": ["input_layernorm", "model.norm"]},
}


def network(
    folder: Path, kind: str = "LlamaForCausalLM", tokenizer: Path | None = None, **changes: Any
) -> Path:
    """A network of random weights, saved by transformers, and what it converts to in `ours`.

    Args:
        folder: for both.
        kind: class of transformers.
        tokenizer: folder of a model whose tokenizer it takes.
        **changes: of its configuration.
    """
    import torch
    import transformers

    torch.manual_seed(7)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    name = kind.partition("For")[0].removesuffix("Model")
    config = getattr(transformers, f"{name}Config")(**{**sizes, **changes})
    # The network alone has no head that the converter would not know.
    whole = kind if kind.endswith("CausalLM") else f"{name}Model"
    getattr(transformers, whole)(config).save_pretrained(folder / "theirs")
    (folder / "theirs" / "tokenizer.json").write_bytes(FILES["tokenizer.json"])
    for name in ("tokenizer.json", "tokenizer_config.json") if tokenizer else ():
        (folder / "theirs" / name).write_bytes((tokenizer / name).read_bytes())
    convert_model(folder / "theirs", folder / "ours", quantize="fp32")
    return folder


def adapted(folder: Path, kind: str = "LlamaForCausalLM", **settings: Any) -> Any:
    """A network with an adapter of random numbers, saved in `adapter`."""
    import torch
    import transformers

    torch.manual_seed(8)
    base = getattr(transformers, kind).from_pretrained(folder / "theirs").eval()
    config = peft.LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": PROJECTIONS, "init_lora_weights": False, **settings}
    )
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, numbers in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                numbers.copy_(torch.randn_like(numbers) * 0.2)
    # What it begins as is told truly: the weights that are saved are not those of `init_lora_weights`.
    model.peft_config["default"].init_lora_weights = settings.get("init_lora_weights", True)
    model.save_pretrained(folder / "adapter")
    return model


def logits(model: Any, **more: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor(IDS[None].astype(np.int64)), **more).logits[0].numpy()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_gives_its_logits_and_comes_back(tmp_path: Path, kind: str, tied: bool) -> None:
    folder = network(tmp_path, tie_word_embeddings=tied)
    theirs = adapted(folder, **ADAPTERS[kind])
    card = convert_card(folder / "adapter", tmp_path / "card.parquet", base=folder / "ours")
    expected = logits(theirs)
    with ArrowEngine(folder / "ours") as engine:
        before = engine.core.logits(IDS)
        engine.attach(card)
        np.testing.assert_allclose(engine.core.logits(IDS), expected, atol=1e-4)
        engine.detach(card.name)
        np.testing.assert_array_equal(engine.core.logits(IDS), before)
    assert np.abs(expected - before).max() > 0.1
    if kind == "norms":
        with pytest.raises(CardError, match="beside its factors"):
            export_peft(card, tmp_path / "back")
        return
    import transformers

    base = transformers.LlamaForCausalLM.from_pretrained(folder / "theirs")
    back = peft.PeftModel.from_pretrained(base, export_peft(card, tmp_path / "back")).eval()
    np.testing.assert_allclose(logits(back), expected, atol=1e-4)


def test_a_head_that_labels_tokens(tmp_path: Path) -> None:
    folder = network(tmp_path, "BertForTokenClassification", num_labels=3)
    theirs = adapted(
        folder,
        "BertForTokenClassification",
        task_type="TOKEN_CLS",
        target_modules=["query", "dense"],
        modules_to_save=["classifier", "embeddings.LayerNorm"],
    )
    card = convert_card(folder / "adapter", tmp_path / "card.parquet", base=folder / "ours")
    assert card.description.heads == ("classifier",)
    with ArrowEngine(folder / "ours") as engine:
        engine.attach(card)
        found = engine.core.head_scores((IDS, np.array([0, len(IDS)])), "classifier")
    np.testing.assert_allclose(found, logits(theirs), atol=1e-4)


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_skill_that_was_learned_goes_to_peft_and_comes_back(
    tmp_path: Path, tiny_decoder_dir: Path, use_dora: bool
) -> None:
    import transformers

    sizes = json.loads((tiny_decoder_dir / "metadata.json").read_text())
    folder = network(tmp_path, tokenizer=tiny_decoder_dir, vocab_size=sizes["vocab_size"], eos_token_id=2)
    settings = LoRAConfig(rank=4, batch_size=2, rate=2e-2, warm_up=0, anchor=0.0, use_dora=use_dora)
    pairs = [{"q": "Who?", "a": "Ada"}, {"q": "When?", "a": "1843"}]
    with ArrowEngine(folder / "ours") as engine:
        before = engine.core.logits(IDS)
        skill = LoRATrainer(engine, config=settings, folder=tmp_path / "skills").train_qa(
            pairs, "facts", epochs=20
        )
        engine.attach(skill)
        expected = engine.core.logits(IDS)
        engine.detach("facts")
        assert np.abs(expected - before).max() > 0.1
        base = transformers.LlamaForCausalLM.from_pretrained(folder / "theirs")
        theirs = peft.PeftModel.from_pretrained(base, export_peft(skill, tmp_path / "out")).eval()
        np.testing.assert_allclose(logits(theirs), expected, atol=1e-4)
        theirs.save_pretrained(tmp_path / "again")
        engine.attach(convert_card(tmp_path / "again", tmp_path / "back.parquet", base=folder / "ours"))
        np.testing.assert_allclose(engine.core.logits(IDS), expected, atol=1e-4)


def test_what_an_encoder_learned_goes_to_peft_and_comes_back(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    import torch
    import transformers

    sizes = json.loads((tiny_encoder_dir / "metadata.json").read_text())
    folder = network(tmp_path, "BertModel", tokenizer=tiny_encoder_dir, vocab_size=sizes["vocab_size"])
    pairs = [("who wrote it", "ada"), ("when", "in 1843"), ("where", "london")]
    settings = LoRAConfig(rank=4, batch_size=3, rate=2e-2, warm_up=0)
    batch = IDS, np.array([0, len(IDS)])
    with ArrowEngine(folder / "ours") as engine:
        engine.metadata = replace(engine.metadata, pooling="mean")
        before = np.concatenate(engine.core.token_states(batch))
        trainer = LoRATrainer(engine, config=settings, folder=tmp_path / "skills")
        skill = trainer.train_pairs(pairs, "near", epochs=20)
        engine.attach(skill)
        expected = np.concatenate(engine.core.token_states(batch))
        engine.detach("near")
        assert np.abs(expected - before).max() > 0.1
        base = transformers.BertModel.from_pretrained(folder / "theirs")
        theirs = peft.PeftModel.from_pretrained(base, export_peft(skill, tmp_path / "out")).eval()
        with torch.no_grad():
            found = theirs(input_ids=torch.tensor(IDS[None].astype(np.int64))).last_hidden_state[0]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
        theirs.save_pretrained(tmp_path / "again")
        engine.attach(convert_card(tmp_path / "again", tmp_path / "back.parquet", base=folder / "ours"))
        np.testing.assert_allclose(np.concatenate(engine.core.token_states(batch)), expected, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True, "rank_pattern": {"query": 2}}, {"use_dora": True}]
)
def test_an_adapter_of_an_encoder_gives_its_states_and_comes_back(
    tmp_path: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    import transformers

    folder = network(tmp_path, "BertModel")
    theirs = adapted(folder, "BertModel", target_modules=["query", "key", "value", "dense"], **settings)
    card = convert_card(folder / "adapter", tmp_path / "card.parquet", base=folder / "ours")
    # peft gave the pooler factors too, behind the states, and is told that they are left out.
    assert any("pooler.dense.lora_A" in name for name, _ in theirs.named_modules())
    assert not any("pooler" in name for name in card)
    assert "'pooler.dense' are left out" in caplog.text
    batch = IDS, np.array([0, 11, len(IDS)])

    def states(model: Any) -> np.ndarray:
        rows = [torch.tensor(part[None].astype(np.int64)) for part in (IDS[:11], IDS[11:])]
        with torch.no_grad():
            found = [model(input_ids=row).last_hidden_state[0].numpy() for row in rows]
        return np.concatenate(found)

    expected = states(theirs)
    with ArrowEngine(folder / "ours") as engine:
        before = np.concatenate(engine.core.token_states(batch))
        engine.attach(card)
        np.testing.assert_allclose(np.concatenate(engine.core.token_states(batch)), expected, atol=1e-4)
    assert np.abs(expected - before).max() > 0.1
    base = transformers.BertModel.from_pretrained(folder / "theirs")
    back = peft.PeftModel.from_pretrained(base, export_peft(card, tmp_path / "back")).eval()
    np.testing.assert_allclose(states(back), expected, atol=1e-4)


REFUSED: dict[str, dict[str, Any]] = {
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "embed_tokens": {"modules_to_save": ["embed_tokens"]},
    "lm_head": {"modules_to_save": ["lm_head"]},
    "lora_embedding_A": {"target_modules": ["q_proj", "embed_tokens"]},
    "trainable_token_indices": {"trainable_token_indices": [1, 2]},
    "bias": {"bias": "lora_only"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_applied_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = network(tmp_path, tie_word_embeddings=False)
    adapted(folder, **REFUSED[name])
    with pytest.raises((CardError, ModelLoadError), match=name):
        convert_card(folder / "adapter", tmp_path / "card.parquet", base=folder / "ours")
    assert not (tmp_path / "card.parquet").exists()


def test_a_head_behind_a_pooler_is_refused(tmp_path: Path) -> None:
    folder = network(tmp_path, "BertForSequenceClassification", num_labels=3)
    adapted(
        folder,
        "BertForSequenceClassification",
        task_type="SEQ_CLS",
        target_modules=["query"],
        modules_to_save=["classifier"],
    )
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["task_type"] == "SEQ_CLS"
    with pytest.raises(CardError, match="pooler"):
        convert_card(folder / "adapter", tmp_path / "card.parquet", base=folder / "ours")
