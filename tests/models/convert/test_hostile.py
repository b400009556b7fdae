"""No value in a foreign file ends in a traceback, a hang or gigabytes: it is refused, or the model works."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import DiffusionError
from support.foreign_models import DECODER, SENTENCE_FILES
from support.gguf_file import GGUF, TENSORS, TOKENS, Value, gguf, numbers, text, texts
from support.loopback_hub import FILES, safetensors

HOSTILE: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "huge": 10**9,
    "beyond": 2**63,
    "endless": 10**400,
    "fraction": 0.5,
    "nan": float("nan"),
    "infinite": float("inf"),
    "empty": "",
    "text": "x",
    "surrogate": "\ud800",
    "escape": "\x1b[31m\n",
    "long": "y" * 100_000,
    "list": [],
    "nested": [[[1]]],
    "mixed": [None, 5, {}],
    "object": {},
    "inner": {"a": {"b": -1}},
    "path": "../../../../etc/passwd",
}

WRITER = {
    **FILES,
    **{name: json.dumps(value).encode() for name, value in SENTENCE_FILES.items()},
    "tokenizer_config.json": json.dumps(
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": 16,
            "chat_template": "{{ messages }}",
            "cls_token": "[CLS]",
            "sep_token": {"content": "[SEP]"},
            "mask_token": "[MASK]",
            "added_tokens_decoder": {},
            "additional_special_tokens": [],
        }
    ).encode(),
    "generation_config.json": json.dumps({"eos_token_id": [3], "temperature": 0.5}).encode(),
    "special_tokens_map.json": json.dumps({"pad_token": "[PAD]"}).encode(),
}


def places(value: Any, depth: int = 3) -> Iterator[tuple[Any, ...]]:
    """Where values stand in a document: the whole, and each key and index down to a depth."""
    yield ()
    if depth and isinstance(value, dict):
        for key, inner in value.items():
            yield from ((key, *rest) for rest in places(inner, depth - 1))
    elif depth and isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield from ((index, *rest) for rest in places(inner, depth - 1))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = put(copy[place[0]], place[1:], new)
    return copy


def check(source: Path, out: Path, text: str = "hello world") -> None:
    """Convert and use; the only exceptions are this library's."""
    with contextlib.suppress(DiffusionError):
        convert_model(source, out, overwrite=True)
        with ArrowEngine(out, num_threads=1) as engine:
            if engine.metadata.pooling:
                engine.encode([text])
            else:
                engine.generate(text, max_tokens=2)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("name", sorted(name for name in WRITER if name.endswith(".json")))
def test_every_value_of_every_file_may_be_anything(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    write(source, WRITER)
    document = json.loads(WRITER[name])
    # Of a vocabulary one entry stands for all.
    found = [place for place in places(document) if place[:2] != ("model", "vocab") or place[2:] < ("[SEP",)]
    for place in found:
        for value in HOSTILE.values():
            (source / name).write_text(json.dumps(put(document, place, value)))
            check(source, tmp_path / "out")


@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a":' * 100_000, "[" + "1," * 6_000_000 + "1]", "{", "\xff"]
)
@pytest.mark.parametrize("name", sorted(name for name in WRITER if name.endswith(".json")))
def test_every_file_may_be_deep_long_or_none(tmp_path: Path, name: str, value: str) -> None:
    write(tmp_path / "source", {**WRITER, name: value.encode("latin-1")})
    with pytest.raises(DiffusionError):
        convert_model(tmp_path / "source", tmp_path / "out")


def test_every_value_of_a_models_own_description_may_be_anything(tmp_path: Path) -> None:
    write(tmp_path / "source", WRITER)
    convert_model(tmp_path / "source", tmp_path / "model")
    path = tmp_path / "model" / "metadata.json"
    document = json.loads(path.read_text())
    for place in places(document, 2):
        for value in HOSTILE.values():
            path.write_text(json.dumps(put(document, place, value)))
            with (
                contextlib.suppress(DiffusionError),
                ArrowEngine(tmp_path / "model", num_threads=1) as engine,
            ):
                engine.encode("hello world")
                engine.encode_query("hello world")
    for value in HOSTILE.values():
        path.write_text(json.dumps(value))
        check(tmp_path / "model", tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
@pytest.mark.parametrize(
    "name", ["metadata.json", "tokenizer.json", "tokenizer_config.json", "weights.parquet"]
)
def test_what_is_no_ordinary_file_is_no_part_of_a_model(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path / "source", WRITER)
    convert_model(tmp_path / "source", tmp_path / "model")
    instead_of(tmp_path / "model" / name, kind)
    with pytest.raises(DiffusionError, match=name):
        assert ArrowEngine(tmp_path / "model").tokenizer.special_tokens
    if name != "tokenizer_config.json":
        with pytest.raises(DiffusionError):
            convert_model(tmp_path / "model", tmp_path / "out")


def instead_of(path: Path, kind: str) -> None:
    """Put something else than an ordinary file where `path` is."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 34)


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
@pytest.mark.parametrize("name", sorted(WRITER))
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path / "source", WRITER)
    path = tmp_path / "source" / name
    instead_of(path, kind)
    with pytest.raises(DiffusionError, match=path.name):
        convert_model(tmp_path / "source", tmp_path / "out")


def test_every_entry_of_safetensors_may_be_anything(tmp_path: Path) -> None:
    write(tmp_path / "source", WRITER)
    content = FILES["model.safetensors"]
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    first = next(iter(header))
    found = [place for place in places(header) if place[:1] in ((), (first,))]
    for place in found:
        for value in HOSTILE.values():
            changed = json.dumps(put(header, place, value)).encode()
            whole = struct.pack("<Q", len(changed)) + changed + content[8 + length :]
            (tmp_path / "source" / "model.safetensors").write_bytes(whole)
            check(tmp_path / "source", tmp_path / "out")


def test_every_setting_of_a_decoder_may_be_anything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    rope = {
        "rope_type": "yarn",
        "factor": 2.0,
        "original_max_position_embeddings": 16,
        "attention_factor": 1.0,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "truncate": True,
    }
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 7}
    config = {**DECODER, **sizes, "head_dim": 8, "tie_word_embeddings": True, "max_position_embeddings": 32}
    config |= {"rope_theta": 1e4, "attention_bias": False, "eos_token_id": [3], "bos_token_id": 2}
    write(source, {**FILES, "model.safetensors": safetensors(decoder_tensors(config))})
    for scaling in (rope, {**llama3, "original_max_position_embeddings": 16}):
        document = {
            **config,
            "rope_scaling": scaling,
            "sliding_window": None,
            "layer_types": ["full_attention"],
        }
        for place in places(document):
            for value in HOSTILE.values():
                (source / "config.json").write_text(json.dumps(put(document, place, value)))
                check(source, tmp_path / "out")


def decoder_tensors(config: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    from ai_os_diffusion.models.convert.needed import needed_tensors
    from ai_os_diffusion.models.convert.settings.architecture import metadata_from_config

    random = np.random.default_rng(1)
    needed = needed_tensors(metadata_from_config(config))
    return {name: random.normal(size=shape) * 0.1 for name, shape in needed.items()}


HOSTILE_GGUF: dict[str, Value] = {
    "zero": (4, struct.pack("<I", 0)),
    "one": (4, struct.pack("<I", 1)),
    "huge": (4, struct.pack("<I", 2**32 - 1)),
    "beyond": (10, struct.pack("<Q", 2**64 - 1)),
    "negative": (11, struct.pack("<q", -5)),
    "true": (7, b"\1"),
    "nan": (6, struct.pack("<f", float("nan"))),
    "infinite": (12, struct.pack("<d", float("inf"))),
    "tiny": (12, struct.pack("<d", 1e-300)),
    "empty": (8, text("")),
    "text": (8, text("x\x1b[31m\n")),
    "long": (8, text("y" * 100_000)),
    "no texts": texts(),
    "one text": texts("a" * 100_000),
    "same texts": texts(*["a"] * len(TOKENS)),
    "numbers": numbers("i", 5, *range(len(TOKENS))),
    "floats": numbers("f", 6, *[float("nan")] * len(TOKENS)),
    "endless list": (9, struct.pack("<IQ", 0, 2**62)),
    "endless text": (8, struct.pack("<Q", 2**62)),
    "nested lists": (9, struct.pack("<IQ", 9, 1) * 50),
    "unknown type": (99, b""),
}


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_every_value_of_a_gguf_may_be_anything(tmp_path: Path, model: str) -> None:
    own = {**GGUF, "tokenizer.ggml.model": (8, text(model))}
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(own, TENSORS))
    convert_model(path, tmp_path / "out")
    with ArrowEngine(tmp_path / "out") as engine:
        assert isinstance(engine.generate("ab", max_tokens=2), str)
    for key in own:
        for value in HOSTILE_GGUF.values():
            path.write_bytes(gguf({**own, key: value}, TENSORS))
            check(path, tmp_path / "out", "ab a")
        path.write_bytes(gguf({name: value for name, value in own.items() if name != key}, TENSORS))
        check(path, tmp_path / "out", "ab a")


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 2**62), (2, 2, 2, 2), (3, 5), (7, 32)])
def test_every_tensor_of_a_gguf_may_have_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "model.gguf"
    for name in [*TENSORS, "rope_freqs.weight", "output.weight", "output", "", "blk.9.attn_q.weight"]:
        path.write_bytes(gguf(GGUF, {**TENSORS, name: shape}))
        check(path, tmp_path / "out", "ab a")


LIMITED = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import DiffusionError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    convert_model(sys.argv[1], sys.argv[2])
except DiffusionError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def many_bytes(path: Path) -> None:
    path.write_bytes(gguf({**GGUF, "a": (9, struct.pack("<IQ", 0, 2_000_000_000))}, {}))
    os.truncate(path, 2_100_000_000)


def many_texts(path: Path) -> None:
    head = gguf({**GGUF, "a": (9, struct.pack("<IQ", 8, 200_000_000))}, {})
    path.write_bytes(head)
    os.truncate(path, 2_100_000_000)


def many_keys(path: Path) -> None:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 10_000_000))
    os.truncate(path, 2_100_000_000)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs limits of memory")
@pytest.mark.parametrize("attack", [many_bytes, many_texts, many_keys])
def test_what_a_header_counts_is_bounded_before_memory_is_asked_for(
    tmp_path: Path, attack: Callable[[Path], None]
) -> None:
    path = tmp_path / "model.gguf"
    attack(path)
    command = [sys.executable, "-c", LIMITED, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    *message, grown_mib = done.stdout.splitlines()
    assert "the GGUF header" in message[0]
    assert int(grown_mib) < 600
