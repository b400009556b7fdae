"""Encoders of every family give the ids, vectors and scores that transformers and sentence-transformers give.

The networks are tiny and of random weights, their tokenizers trained on a few lines of many scripts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from support.saved_networks import FAMILIES, WINDOW, save_network
from support.trained_tokenizers import CORPUS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

TEXTS = [*(text for text in CORPUS if text.strip() and "[SEP]" not in text), "ﬁne Ⅷ ａＢ … e\u0301"]
SPELLED = ["a <mask> [SEP] </s>", "[CLS]<s>[MASK]"]
"""To transformers they hold special tokens; here they do in ids, not where texts are read."""

QUESTION = "who wrote it?"
PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(autouse=True)
def _needs_torch() -> None:
    pytest.importorskip("sentence_transformers")


@pytest.mark.parametrize("family", FAMILIES)
def test_ids(tmp_path: Path, family: str) -> None:
    import transformers

    convert_model(save_network(tmp_path / "theirs", family), tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    with ArrowEngine(tmp_path / "ours") as engine:
        for text in [*TEXTS, *SPELLED]:
            assert engine.tokenizer.encode(text).flat_ids.tolist() == theirs(text)["input_ids"], text


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors(tmp_path: Path, family: str, pooling: str) -> None:
    import sentence_transformers
    from sentence_transformers.sentence_transformer import modules

    network = modules.Transformer(str(save_network(tmp_path / "network", family)))
    parts = [network, modules.Pooling(32, pooling_mode=pooling), modules.Normalize()]
    made = sentence_transformers.SentenceTransformer(modules=parts, device="cpu", prompts=PROMPTS)
    made.save(str(tmp_path / "theirs"))
    convert_model(tmp_path / "theirs", tmp_path / "ours")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "theirs"), device="cpu")
    for backend in ("native", "torch"):
        with ArrowEngine(tmp_path / "ours", device="cpu", backend=backend) as engine:
            assert engine.max_seq_length == theirs.max_seq_length == WINDOW
            for name in ("encode", "encode_query", "encode_document"):
                expected, found = getattr(theirs, name)(TEXTS), getattr(engine, name)(TEXTS)
                np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5, err_msg=f"{backend} {name}")


def scores(folder: Path, **changes: Any) -> Any:
    """A CrossEncoder of a folder, and the same folder converted."""
    from sentence_transformers import CrossEncoder

    convert_model(folder, folder.with_name("ours"), overwrite=True)
    return CrossEncoder(str(folder), device="cpu", **changes)


@pytest.mark.parametrize("saved_by", ["transformers", "sentence_transformers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores(tmp_path: Path, family: str, saved_by: str) -> None:
    pooling = {"classifier_pooling": "mean"} if family == "ModernBert" else {}
    folder = save_network(tmp_path / "net", family, "ForSequenceClassification", num_labels=1, **pooling)
    if saved_by == "sentence_transformers":
        scores(folder).save_pretrained(str(tmp_path / "again"))
        folder = tmp_path / "again"
    theirs, passages = scores(folder), [*TEXTS, QUESTION * 30]
    expected = theirs.predict([(QUESTION, passage) for passage in passages])
    for backend in ("native", "torch"):
        with ArrowEngine(tmp_path / "ours", device="cpu", backend=backend) as engine:
            found = engine.relevance(QUESTION, passages)
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5, err_msg=backend)


@pytest.mark.parametrize("key", ["sbert_ce_default_activation_function", "sentence_transformers"])
def test_scores_that_are_no_probabilities(tmp_path: Path, key: str) -> None:
    folder = save_network(tmp_path / "net", "Bert", "ForSequenceClassification", num_labels=1)
    config = json.loads((folder / "config.json").read_text())
    identity = "torch.nn.modules.linear.Identity"
    config[key] = identity if key.startswith("sbert") else {"activation_fn": identity}
    (folder / "config.json").write_text(json.dumps(config))
    theirs = scores(folder)
    with ArrowEngine(tmp_path / "ours") as engine:
        found = engine.relevance(QUESTION, TEXTS[:5])
    np.testing.assert_allclose(found, theirs.predict([(QUESTION, text) for text in TEXTS[:5]]), rtol=1e-3)
    assert found.max() > 1 or found.min() < 0


def test_windows_hide_what_is_far(tmp_path: Path) -> None:
    """A state of one block that sees a window alone does not change with a token beyond it."""
    import torch
    import transformers

    folder = save_network(
        tmp_path / "net", "ModernBert", num_hidden_layers=1, layer_types=["sliding_attention"]
    )
    convert_model(folder, tmp_path / "ours")
    ids = np.arange(10, 10 + WINDOW, dtype=np.int32)
    changed = ids.copy()
    changed[40] = 9
    theirs = transformers.ModernBertModel.from_pretrained(folder).eval()
    with ArrowEngine(tmp_path / "ours") as engine, torch.inference_mode():
        before, after = (engine.core.hidden_states([row])[0] for row in (ids, changed))
        expected = theirs(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(before, expected, rtol=2e-4, atol=2e-5)
    differs = np.abs(before - after).max(1) > 0
    assert differs.nonzero()[0].tolist() == list(range(34, 47))
