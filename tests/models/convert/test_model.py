"""Hugging Face folders, sharding, atomicity, memory, and what a report says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.inference.weight_loader import WeightLoader
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.convert.needed import needed_tensors
from ai_os_diffusion.models.convert.safetensors import read_safetensors
from ai_os_diffusion.models.convert.settings.architecture import metadata_from_config
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError, WeightError
from support.loopback_hub import FILES

RNG = np.random.default_rng(11)
CONFIG = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 32,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def bert_tensors() -> dict[str, np.ndarray]:
    def random(*shape: int) -> np.ndarray:
        return RNG.standard_normal(shape).astype(np.float32)

    layer = "bert.encoder.layer.0"
    shapes = {f"{layer}.attention.{part}": (64, 64) for part in ("self.query", "self.key", "self.value")}
    shapes |= {f"{layer}.attention.output.dense": (64, 64), f"{layer}.attention.output.LayerNorm": (64,)}
    shapes |= {f"{layer}.intermediate.dense": (128, 64), f"{layer}.output.dense": (64, 128)}
    shapes |= {f"{layer}.output.LayerNorm": (64,)}
    return {
        "bert.embeddings.word_embeddings.weight": random(100, 64),
        "bert.embeddings.position_embeddings.weight": random(32, 64),
        "bert.embeddings.token_type_embeddings.weight": random(2, 64),
        "bert.embeddings.LayerNorm.gamma": random(64),
        "bert.embeddings.LayerNorm.beta": random(64),
        **{f"{name}.weight": random(*shape) for name, shape in shapes.items()},
        **{f"{name}.bias": random(shape[0]) for name, shape in shapes.items()},
        "bert.pooler.dense.weight": random(64, 64),
        "bert.embeddings.position_ids": np.arange(32)[None],
    }


def write_bert(
    folder: Path, tensors: dict[str, np.ndarray] | None = None, **config: Any
) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    tensors = bert_tensors() if tensors is None else tensors
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    mask = {"content": "[MASK]", "id": 4, "single_word": False, "lstrip": False, "rstrip": False}
    added = [{**mask, "normalized": False, "special": True}]
    tokenizer = {**json.loads(FILES["tokenizer.json"]), "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": "[MASK]"}))
    save_file(tensors, folder / "model.safetensors")
    return tensors


def test_a_sentence_model_keeps_its_settings(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tensors = write_bert(source)
    types = ["Transformer", "Pooling"]
    paths = ["", "1_Pooling"]
    modules = [
        {"type": f"sentence_transformers.models.{name}", "path": path}
        for name, path in zip(types, paths, strict=True)
    ]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (source / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (source / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (source / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Tiny\n")
    report = convert_model(source, tmp_path / "out")
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    expected = {
        "model_type": "encoder",
        "pooling": "cls",
        "normalize": False,
        "max_seq_length": 16,
        "prompts": {"query": "query: ", "passage": "passage: ", "document": "passage: "},
        "mask_token_id": 4,
        "num_kv_heads": 4,
        "head_dim": 16,
        "attention_bias": True,
    }
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["source"]["license"] == "mit"
    assert set(metadata["source"]["files"]) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert report.dropped == ("bert.pooler.dense.weight",)
    file = WeightFile(tmp_path / "out" / "weights.parquet")
    assert file.schema_version == 1
    renamed = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    for name, values in tensors.items():
        if "pooler" in name or "position_ids" in name:
            continue
        for old, new in renamed.items():
            name = name.replace(old, new)
        np.testing.assert_array_equal(file.plain(name.removeprefix("bert.")), values)


@pytest.mark.parametrize("quantize", ["int8", "int4", "int2", "fp16", "bf16", "fp32"])
def test_quantising_leaves_norms_and_positions_alone(tmp_path: Path, quantize: str) -> None:
    tensors = write_bert(tmp_path / "source")
    report = convert_model(tmp_path / "source", tmp_path / "out", quantize=quantize)
    file = WeightFile(tmp_path / "out" / "weights.parquet")
    types = {name: file.info(name)["quant_type"] or file.info(name)["dtype"] for name in file.names}
    long = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
    assert types["encoder.layer.0.output.dense.weight"] == long.get(quantize, quantize)
    assert types["embeddings.LayerNorm.weight"] == "float32"
    if quantize.startswith("int"):
        assert types["embeddings.position_embeddings.weight"] == "float32"
        assert types["embeddings.word_embeddings.weight"] == "int8"
    name = "encoder.layer.0.output.dense.weight"
    values, original = file.dequantize(name), tensors[f"bert.{name}"]
    tolerance = {"int8": 0.02, "int4": 0.35, "int2": 1.5, "bf16": 0.02, "fp16": 2e-3, "fp32": 0}[quantize]
    np.testing.assert_allclose(values, original, atol=tolerance)
    params = sum(file.info(name)["num_params"] for name in file.names)
    assert report.num_params == params
    assert report.bits_per_weight == round(report.size_bytes * 8 / params, 4)
    assert report.size_bytes == (tmp_path / "out" / "weights.parquet").stat().st_size


def test_a_converted_model_is_a_source_too(tmp_path: Path) -> None:
    write_bert(tmp_path / "source")
    convert_model(tmp_path / "source", tmp_path / "int4", quantize="int4", symmetric=False)
    convert_model(tmp_path / "int4", tmp_path / "again")
    convert_model(tmp_path / "int4", tmp_path / "wide", quantize="fp32")
    first, again, wide = (
        WeightFile(tmp_path / name / "weights.parquet") for name in ("int4", "again", "wide")
    )
    for name in first.names:
        assert again.info(name) == first.info(name)
        np.testing.assert_array_equal(again.dequantize(name), first.dequantize(name))
        np.testing.assert_array_equal(wide.plain(name), first.dequantize(name))
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (
        tmp_path / "int4" / "tokenizer.json"
    ).read_bytes()


def test_shards_read_as_one_file(tmp_path: Path) -> None:
    tensors = write_bert(tmp_path / "whole")
    sharded = tmp_path / "sharded"
    write_bert(sharded, {})
    (sharded / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-{1 + i % 3:05}-of-00003.safetensors" for i, name in enumerate(names)}
    for shard in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == shard}, sharded / shard)
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    convert_model(tmp_path / "whole", tmp_path / "a")
    convert_model(sharded, tmp_path / "b")
    a, b = (WeightFile(tmp_path / name / "weights.parquet") for name in "ab")
    assert set(a.names) == set(b.names)
    for name in a.names:
        np.testing.assert_array_equal(a.plain(name), b.plain(name))
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightError, match="names the shard model-00002-of-00003"):
        convert_model(sharded, tmp_path / "c")
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(WeightError, match="expected file names"):
        convert_model(sharded, tmp_path / "c")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{ ", "not valid JSON"),
        (b"[]", "expected an object"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}', "twice"),
        (b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', "needs 12 bytes, got 8"),
        (b'{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', "unusable header entry"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', "expected its bytes at 0, got 4"),
        (b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}', "unusable header entry"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "bytes, got"),
        (b'{"a":1}', "unusable header entry"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, header: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(WeightError, match=message) as caught:
        read_safetensors(path)
    assert "bad.safetensors" in str(caught.value)


def test_a_cut_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"a": np.ones((3, 5), np.float32), "b": np.ones(4, np.float16)}, path)
    whole = path.read_bytes()
    assert [tensor.name for tensor in read_safetensors(path)] == ["a", "b"]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightError, match=r"cut\.safetensors"):
            read_safetensors(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' cannot be run"),
        ({"hidden_act": "tanh"}, "hidden_act is 'tanh'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide', expected a whole number"),
    ],
)
def test_configurations_that_cannot_run_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    write_bert(tmp_path / "source", **change)
    with pytest.raises(ModelLoadError, match=message):
        convert_model(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_parts_are_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with pytest.raises(ModelLoadError, match="not found"):
        convert_model(source, tmp_path / "out")
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        write_bert(source)
        (source / name).unlink()
        with pytest.raises(ModelLoadError, match=r"no (tokenizer\.json|weights|config\.json)"):
            convert_model(source, tmp_path / "out")


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    write_bert(tmp_path / "source")
    for options, message in [
        ({"quantize": "int3"}, "int8, int4, int2"),
        ({"quantize": "int4", "group_size": 48}, "group_size"),
        ({"group_size": 32}, "need quantize"),
        ({"quantize": "fp16", "symmetric": True}, "need quantize"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            convert_model(tmp_path / "source", tmp_path / "out", **options)


def test_values_that_are_not_finite_name_their_tensor_and_leave_nothing(tmp_path: Path) -> None:
    tensors = bert_tensors()
    tensors["bert.encoder.layer.0.output.dense.weight"][3, 5] = np.nan
    write_bert(tmp_path / "source", tensors)
    with pytest.raises(WeightError, match=r"output\.dense\.weight.*row 3, column 5: cannot quantise NaN"):
        convert_model(tmp_path / "source", tmp_path / "out", quantize="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("storage", [None, "fp16", "bf16"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.uint32(0x7FFFFFFF).view(np.float32)])
def test_plain_weights_that_are_not_finite_are_refused_too(
    tmp_path: Path, storage: str | None, bad: float
) -> None:
    tensors = bert_tensors()
    tensors["bert.encoder.layer.0.output.dense.weight"][3, 5] = bad
    write_bert(tmp_path / "source", tensors)
    with pytest.raises(WeightError, match=r"output\.dense\.weight.* \[3, 5\] is not finite"):
        convert_model(tmp_path / "source", tmp_path / "out", quantize=storage)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_weight_beyond_half_precision_is_refused_not_made_infinite(tmp_path: Path) -> None:
    tensors = bert_tensors()
    tensors["bert.embeddings.word_embeddings.weight"][99, 63] = 70000
    write_bert(tmp_path / "source", tensors)
    with pytest.raises(WeightError, match=r"word_embeddings.* \[99, 63\] is not finite as float16"):
        convert_model(tmp_path / "source", tmp_path / "out", quantize="fp16")


def test_incomplete_sources_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name in bert_tensors():
        if "pooler" in name or "position_ids" in name:
            continue
        tensors = bert_tensors()
        values = tensors.pop(name)
        write_bert(tmp_path / "source", tensors)
        with pytest.raises(WeightError, match=r"tensor '\S+' of shape \(.*\) is missing, which bert needs"):
            convert_model(tmp_path / "source", tmp_path / "out")
        write_bert(tmp_path / "source", {**tensors, name: values[1:].copy()})
        with pytest.raises(WeightError, match="by the model's configuration, got"):
            convert_model(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_is_needed_is_what_runs(tiny_encoder_dir: Path, tiny_decoder_dir: Path) -> None:
    for folder in (tiny_encoder_dir, tiny_decoder_dir):
        metadata = json.loads((folder / "metadata.json").read_text())
        file = WeightFile(folder / "weights.parquet")
        shapes = {name: tuple(file.info(name)["shape"]) for name in file.names}
        assert needed_tensors(metadata) == shapes
        for name in shapes:
            fewer = {other: file.dequantize(other) for other in shapes if other != name}
            with pytest.raises(WeightError, match=name):
                InferenceCore(fewer, metadata)


def test_a_damaged_model_is_not_converted_again(tmp_path: Path) -> None:
    write_bert(tmp_path / "source")
    convert_model(tmp_path / "source", tmp_path / "model")
    path = tmp_path / "model" / "weights.parquet"
    loader = WeightLoader(path)
    seen: list[int] = []
    assert loader.verify(seen.append) == len(loader.get_layer_names())
    assert seen == sorted(seen)
    content = bytearray(path.read_bytes())
    content[path.stat().st_size // 3] ^= 1
    path.write_bytes(content)
    damaged = r'tensor "\S+"'
    with pytest.raises(WeightError, match=damaged):
        WeightLoader(path).verify()
    for storage in (None, "int8", "int4"):
        with pytest.raises(WeightError, match=damaged):
            convert_model(tmp_path / "model", tmp_path / "again", quantize=storage)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "source"]


def test_an_existing_model_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_bert(tmp_path / "source")
    out = tmp_path / "out"
    convert_model(tmp_path / "source", out)
    with pytest.raises(ModelLoadError, match="overwrite=True"):
        convert_model(tmp_path / "source", out)
    open_before = WeightFile(out / "weights.parquet")
    convert_model(tmp_path / "source", out, quantize="int8", overwrite=True)
    assert WeightFile(out / "weights.parquet").schema_version == 2
    # What was open stays as it was.
    assert open_before.verify() == len(open_before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def _kept(path: Path) -> tuple[int, ...]:
    """What a file is; when it was last read is nobody's loss."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


@pytest.mark.parametrize("kind", ["pipe", "file", "link", "folder"])
def test_only_the_folder_of_a_model_is_replaced(tmp_path: Path, kind: str) -> None:
    write_bert(tmp_path / "source")
    out = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "link":
        out.symlink_to("source")
    elif kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "letters.txt").write_text("mine")
    before = _kept(out)
    with pytest.raises(ModelLoadError, match=r"out: expected "):
        convert_model(tmp_path / "source", out, overwrite=True)
    assert _kept(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    write_bert(tmp_path / "source")
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_model(tmp_path / "source", tmp_path / "out", quantize="int4", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert seen == sorted(seen)


CHILD = """
import sys, time
from ai_os_diffusion.models.convert import convert_model

def progress(done, total):
    if "kill" in sys.argv and done > total // 2:
        print("half", flush=True)
        time.sleep(60)

convert_model(sys.argv[1], sys.argv[2], quantize="int8", progress=progress)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_conversion_leaves_no_model_and_the_next_one_clears_up(tmp_path: Path) -> None:
    write_bert(tmp_path / "source")
    command = [sys.executable, "-c", CHILD, str(tmp_path / "source"), str(tmp_path / "out"), "kill"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out").exists()
    convert_model(tmp_path / "source", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_stays_near_the_largest_tensor(tmp_path: Path) -> None:
    # 490 MB of weights, the largest tensor 41 MB.
    large = {"hidden_size": 1024, "intermediate_size": 10_000, "num_hidden_layers": 5}
    needed = needed_tensors(metadata_from_config({**CONFIG, **large}))
    write_bert(
        tmp_path / "source", {name: np.ones(shape, np.float32) for name, shape in needed.items()}, **large
    )
    command = [sys.executable, "-c", CHILD, str(tmp_path / "source"), str(tmp_path / "out")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024
    assert peak < 41e6 + 200e6
