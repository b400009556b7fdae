"""Fixtures shared by all tests: real models where they have been pulled, and no network."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ai_os_diffusion.config import load_config


def _pulled(name: str) -> Path:
    folder = load_config().models_dir / name
    if not (folder / "weights.parquet").is_file():
        pytest.skip(f"model {name} is not pulled: run `aios pull {name}`")
    return folder


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The converted MiniLM, int8."""
    return _pulled("minilm")


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """The converted SmolLM2-135M-Instruct, as its GGUF stores it."""
    return _pulled("smollm2")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The evaluation data named by AIOS_DATA."""
    folder = os.environ.get("AIOS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("evaluation data is not here: set AIOS_DATA to its folder")
    return Path(folder)


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of `benchmarks/` as it is run: those beside it are found, and gone again afterwards.

    Their names are short, and some of them are folders of tests as well.
    """
    folder = str(Path(__file__).parents[1] / "benchmarks")
    before = set(sys.modules)
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]


@pytest.fixture
def close_folder(monkeypatch):
    """Take away every right to a folder: `close_folder(path)`; for root too, whom rights do not bind."""
    closed: list[str] = []

    def refusing(call, *, itself):
        def checked(path=".", *args, **options):
            name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
            if any(name.startswith(f"{folder}/") or (itself and name == folder) for folder in closed):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
            return call(path, *args, **options)

        return checked

    def close(folder: Path) -> None:
        closed.append(str(folder))
        folder.chmod(0)

    monkeypatch.setattr(os, "scandir", refusing(os.scandir, itself=True))
    # What is in a folder cannot be looked at; the folder itself can.
    monkeypatch.setattr(os, "stat", refusing(os.stat, itself=False))
    yield close
    for folder in closed:
        Path(folder).chmod(0o700)


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory) -> Path:
    """A converted BERT of random weights and 32 dimensions; it reads any text, letter by letter."""
    source = tmp_path_factory.mktemp("tiny_encoder_source")
    letters = [chr(code) for code in range(33, 127)]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    config = {
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": len(vocab),
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0,
    }
    _write_json(source / "config.json", config)
    _write_json(source / "tokenizer_config.json", {"cls_token": "[CLS]", "sep_token": "[SEP]"})
    _word_piece(vocab).save(str(source / "tokenizer.json"))
    shapes = {
        "embeddings.word_embeddings.weight": (len(vocab), 32),
        "embeddings.position_embeddings.weight": (128, 32),
        "embeddings.token_type_embeddings.weight": (2, 32),
        **_norm_shapes("embeddings.LayerNorm", 32),
    }
    for layer in range(2):
        prefix = f"encoder.layer.{layer}"
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes |= _linear_shapes(f"{prefix}.{name}", 32, 32)
        shapes |= _linear_shapes(f"{prefix}.intermediate.dense", 64, 32)
        shapes |= _linear_shapes(f"{prefix}.output.dense", 32, 64)
        shapes |= _norm_shapes(f"{prefix}.attention.output.LayerNorm", 32)
        shapes |= _norm_shapes(f"{prefix}.output.LayerNorm", 32)
    return _converted(source, shapes, tmp_path_factory.mktemp("models") / "tiny-encoder")


@pytest.fixture(scope="session")
def tiny_decoder_dir(tmp_path_factory) -> Path:
    """A converted Llama of random weights with a chat template; what it writes means nothing."""
    source = tmp_path_factory.mktemp("tiny_decoder_source")
    tokenizer, size = _byte_pairs()
    tokenizer.save(str(source / "tokenizer.json"))
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": size,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    _write_json(source / "config.json", config)
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    _write_json(source / "tokenizer_config.json", {"eos_token": "<|im_end|>", "chat_template": template})
    shapes = {"model.embed_tokens.weight": (size, 32), "model.norm.weight": (32,)}
    for layer in range(2):
        prefix = f"model.layers.{layer}"
        rows = {"q_proj": 32, "k_proj": 16, "v_proj": 16, "o_proj": 32}
        shapes |= {f"{prefix}.self_attn.{name}.weight": (n, 32) for name, n in rows.items()}
        shapes |= {f"{prefix}.mlp.{name}.weight": (64, 32) for name in ("gate_proj", "up_proj")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (32, 64)
        shapes |= {
            f"{prefix}.{name}.weight": (32,) for name in ("input_layernorm", "post_attention_layernorm")
        }
    return _converted(source, shapes, tmp_path_factory.mktemp("models") / "tiny-decoder")


@pytest.fixture(scope="session")
def tiny_diffusion_dir(tiny_decoder_dir, tmp_path_factory) -> Path:
    """The tiny decoder with a card of its own, by which it writes as little sense."""
    from ai_os_diffusion.models.cards import Base, Card, CardDescription
    from ai_os_diffusion.models.convert.folder import copy_model

    base = Base.of_folder(tiny_decoder_dir)
    vocab_size = json.loads((tiny_decoder_dir / "metadata.json").read_text())["vocab_size"]
    config = {"mask_id": vocab_size - 1, "null_id": vocab_size - 2, "block_length": 8, "threshold": 0.02}
    about = CardDescription("tiny-diffusion", "diffusion", base, 0, 1.0, config=config)
    norm = np.random.default_rng(3).normal(size=32).astype(np.float32) * 4
    folder = tmp_path_factory.mktemp("with_card")
    card = Card.write(folder / "card.parquet", about, [("model.norm.weight", norm)])
    copy_model(tiny_decoder_dir, folder / "tiny-diffusion", origin={"name": "tiny-diffusion"}, card=card.path)
    return folder / "tiny-diffusion"


@pytest.fixture(scope="session")
def pdf_of():
    """Makes the smallest PDF of one page that shows a line of text."""

    def make(text: str) -> bytes:
        stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>",
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
        body, offsets = b"%PDF-1.4\n", []
        for number, content in enumerate(objects, 1):
            offsets.append(len(body))
            body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
        table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        start = len(body)
        return (
            body
            + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
            + b"trailer << /Root 1 0 R /Size %d >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
        )

    return make


def _converted(source: Path, shapes: dict[str, tuple[int, ...]], out: Path) -> Path:
    """Fill the shapes with noise around 0, those of norms around 1, and convert the folder."""
    from safetensors.numpy import save_file

    from ai_os_diffusion.models.convert import convert_model

    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.normal(0, 0.2, shape) + ("orm" in name and name.endswith("weight"))).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, source / "model.safetensors")
    convert_model(source, out)
    return out


def _linear_shapes(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _word_piece(vocab: list[str]):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {token: index for index, token in enumerate(vocab)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=200))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _byte_pairs():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {
        token: index for index, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    return tokenizer, len(vocab)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
