"""Models saved by the sentence-transformers that is installed give the vectors that it gives itself.

Nothing is kept from an earlier release: each run writes the files anew, so that a new form is noticed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import ModelLoadError
from support.loopback_hub import FILES

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

WORDS = [*"abcdefghijklmnopqrstuvwxyz", *"ABCDE", "hello", "world", "##o", "rose", "##s", ":", ".", ",", "é"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "hello world",
    "Hello, WORLD: roses.",
    "a",
    "rose é hello unknownword",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4,
]
POSITIONS = 64


def tokenizer_json(*, lowercase: bool = True, end: str | None = None) -> bytes:
    """A WordPiece tokenizer of letters; with `end`, texts end with that token alone, as decoders' do."""
    tokens = [*SPECIALS, *WORDS]
    value = json.loads(FILES["tokenizer.json"])
    value["model"]["vocab"] = {token: id for id, token in enumerate(tokens)}
    value["normalizer"]["lowercase"] = lowercase
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    value["added_tokens"] = [{"id": id, "content": token, **flags} for id, token in enumerate(SPECIALS)]
    before = [] if end else [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]
    around = [*before, {"Sequence": {"id": "A", "type_id": 0}}]
    around += [{"SpecialToken": {"id": end or "[SEP]", "type_id": 0}}]
    named = {token: {"id": token, "ids": [id], "tokens": [token]} for id, token in enumerate(SPECIALS)}
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": around,
        "pair": [*around, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: named[token] for token in (end or "[CLS]", end or "[SEP]")},
    }
    return json.dumps(value).encode()


def network(folder: Path, architecture: str, *, lowercase: bool = True, **changes: Any) -> Path:
    """A network of random weights with its tokenizer, saved by transformers."""
    import torch
    import transformers

    torch.manual_seed(3)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": len(SPECIALS) + len(WORDS),
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    }
    if architecture != "Bert":
        sizes |= {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    config = getattr(transformers, f"{architecture}Config")(**{**sizes, **changes})
    getattr(transformers, f"{architecture}Model")(config).save_pretrained(folder)
    end = None if architecture == "Bert" else "[SEP]"
    (folder / "tokenizer.json").write_bytes(tokenizer_json(lowercase=lowercase, end=end))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS}
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **named, "mask_token": "[MASK]"}))
    return folder


def saved(
    tmp_path: Path,
    architecture: str = "Bert",
    *,
    pooling: Any = "mean",
    include_prompt: bool = True,
    normalize: bool = True,
    more: Any = (),
    window: int | None = None,
    config: dict[str, Any] | None = None,
    transformer: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A model of sentence-transformers in `tmp_path / "saved"`, as a second process would load it."""
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    folder = network(tmp_path / "network", architecture, **(config or {}))
    first = modules.Transformer(str(folder), **(transformer or {}))
    if window is not None:
        first.max_seq_length = window
    pool = modules.Pooling(32, pooling_mode=pooling, include_prompt=include_prompt)
    parts = [first, pool, *more, *([modules.Normalize()] if normalize else [])]
    st.SentenceTransformer(modules=parts, device="cpu", **options).save(str(tmp_path / "saved"))
    return st.SentenceTransformer(str(tmp_path / "saved"), device="cpu")


def compare(tmp_path: Path, theirs: Any) -> None:
    convert_model(tmp_path / "saved", tmp_path / "ours")
    with ArrowEngine(tmp_path / "ours") as engine:
        assert engine.max_seq_length == theirs.max_seq_length
        for name in ("encode", "encode_query", "encode_document"):
            expected, found = getattr(theirs, name)(TEXTS), getattr(engine, name)(TEXTS)
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("architecture", ["Bert", "Llama", "Qwen2", "Qwen3"])
def test_every_family(tmp_path: Path, architecture: str) -> None:
    pooling = "mean" if architecture == "Bert" else "lasttoken"
    compare(tmp_path, saved(tmp_path, architecture, pooling=pooling))


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize(
    "pooling", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
)
def test_every_pooling(tmp_path: Path, pooling: str, include_prompt: bool) -> None:
    prompts = {"query": "hello: ", "document": "", "mine": "rose "}
    theirs = saved(
        tmp_path,
        pooling=pooling,
        include_prompt=include_prompt,
        normalize=False,
        prompts=prompts,
        default_prompt_name="mine",
    )
    compare(tmp_path, theirs)


@pytest.mark.parametrize("window", [4, 20, POSITIONS])
def test_every_window(tmp_path: Path, window: int) -> None:
    compare(tmp_path, saved(tmp_path, window=window))


@pytest.mark.parametrize(
    "prompts",
    [{}, {"query": "hello ", "passage": "rose "}, {"document": "rose "}, {"query": "", "corpus": "a "}],
)
def test_every_kind_of_prompts(tmp_path: Path, prompts: dict[str, str]) -> None:
    compare(tmp_path, saved(tmp_path, prompts=prompts))


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_lower_casing(tmp_path: Path, lowercase: bool, asked: bool) -> None:
    # The tokenizer of the saved folder lower-cases already where it was asked to: files before 5.4 only ask.
    saved(tmp_path, config={"lowercase": lowercase})
    path = tmp_path / "saved" / "sentence_bert_config.json"
    path.write_text(json.dumps({"max_seq_length": 32, "do_lower_case": asked}))
    import sentence_transformers

    compare(tmp_path, sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu"))


@pytest.mark.parametrize(
    "own", [{}, {"do_lower_case": True}, {"do_lower_case": False}, {"strip_accents": False}]
)
@pytest.mark.parametrize("lowercase", [True, False])
def test_a_tokenizer_of_bert_normalises_as_its_configuration_says(
    tmp_path: Path, lowercase: bool, own: dict[str, bool]
) -> None:
    saved(tmp_path, config={"lowercase": lowercase})
    path = tmp_path / "saved" / "tokenizer_config.json"
    config = {**json.loads(path.read_text()), "tokenizer_class": "BertTokenizer", **own}
    path.write_text(json.dumps(config))
    (tmp_path / "saved" / "tokenizer.json").write_bytes(tokenizer_json(lowercase=lowercase))
    import sentence_transformers

    compare(tmp_path, sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu"))


def test_a_tokenizer_of_bert_surrounds_every_text(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "saved" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "BertTokenizer"}))
    bare = {**json.loads(tokenizer_json()), "post_processor": None}
    (tmp_path / "saved" / "tokenizer.json").write_text(json.dumps(bare))
    import sentence_transformers

    compare(tmp_path, sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu"))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
            "rope_theta": 10000.0,
        },
    ],
)
def test_rotary_positions(tmp_path: Path, rope: dict[str, Any]) -> None:
    compare(tmp_path, saved(tmp_path, "Llama", pooling="mean", config={"rope_parameters": rope}))


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3"])
def test_biases(tmp_path: Path, architecture: str) -> None:
    config = {"attention_bias": True, **({"mlp_bias": True} if architecture == "Llama" else {})}
    compare(tmp_path, saved(tmp_path, architecture, pooling="mean", config=config))


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_tied_as_transformers_ties_it(tmp_path: Path, tied: bool, said: bool) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file, save_file

    network(tmp_path / "saved", "Llama", tie_word_embeddings=said)
    path = tmp_path / "saved" / "model.safetensors"
    weights = {f"model.{name}": tensor for name, tensor in load_file(path).items()}
    head = weights["model.embed_tokens.weight"]
    head = head.clone() if tied else torch.flip(head, [0])
    save_file({**weights, "lm_head.weight": head}, path, metadata={"format": "pt"})
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "saved").eval()
    convert_model(tmp_path / "saved", tmp_path / "ours")
    ids = torch.tensor([[5, 6, 7, 8]])
    with ArrowEngine(tmp_path / "ours") as engine, torch.inference_mode():
        expected = theirs(ids).logits[0].numpy()
        np.testing.assert_allclose(engine.core.logits(ids[0].numpy()), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("dimension", [8, 32])
def test_a_dimension_of_its_own(tmp_path: Path, dimension: int) -> None:
    compare(tmp_path, saved(tmp_path, normalize=False, truncate_dim=dimension))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pooling": ("cls", "mean")}, "pooling_mode"),
        ({"more": "Dense"}, "Dense"),
        ({"more": "LayerNorm"}, "LayerNorm"),
        ({"similarity_fn_name": "euclidean"}, "similarity_fn_name"),
    ],
)
def test_what_is_not_computed_is_refused_as_it_is_saved_today(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    more = {"Dense": lambda: modules.Dense(32, 32), "LayerNorm": lambda: modules.LayerNorm(32)}
    if "more" in options:
        options = {"more": [more[options["more"]]()]}
    saved(tmp_path, normalize=False, **options)
    with pytest.raises(ModelLoadError, match=named):
        convert_model(tmp_path / "saved", tmp_path / "ours")
