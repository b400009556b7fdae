"""WeightLoader: views without copies, foreign Parquet files, and every kind of bad input."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ai_os_diffusion._native import WeightFile, WeightWriter
from ai_os_diffusion.inference.quantization_schema import (
    SCHEMA_V1,
    SCHEMA_V2,
    BFloat16Tensor,
    QuantizedTensor,
)
from ai_os_diffusion.inference.weight_loader import LazyWeightDict, WeightLoader, inspect_model
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError, WeightError

RNG = np.random.default_rng(7)
MATRIX = RNG.standard_normal((33, 64)).astype(np.float32)
BRAIN = (MATRIX.view(np.uint32) >> 16).astype(np.uint16)


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.parquet"
    writer = WeightWriter(path, {"origin": "test"})
    writer.add_plain("plain", MATRIX)
    writer.add_plain("half", MATRIX.astype(np.float16))
    writer.add_plain("brain", BRAIN)
    for bits in (8, 4, 2):
        writer.add_quantized(f"int{bits}", MATRIX, bits, 32, "minimum")
    writer.finish()
    return path


def test_views_hold_the_values_and_cannot_be_written(weights_file: Path) -> None:
    loader = WeightLoader(weights_file)
    weights = loader.load_weights()
    assert isinstance(weights.native, WeightFile)
    assert weights.native.zero_copy
    assert loader.get_layer_names() == list(weights) == ["plain", "half", "brain", "int8", "int4", "int2"]
    assert loader.get_schema_version() == 2
    assert loader.get_metadata()["origin"] == "test"
    np.testing.assert_array_equal(weights["plain"], MATRIX)
    np.testing.assert_array_equal(weights["half"], MATRIX.astype(np.float16))
    brain = weights["brain"]
    assert isinstance(brain, BFloat16Tensor)
    np.testing.assert_array_equal(brain.dequantize().view(np.uint32), BRAIN.astype(np.uint32) << 16)
    for bits in (8, 4, 2):
        tensor = weights[f"int{bits}"]
        assert isinstance(tensor, QuantizedTensor)
        assert tensor.bits == bits
        assert tensor.scales.shape == (3, 2, 16)
        assert tensor.unpack().max() < 1 << bits
        step = np.abs(tensor.scales.astype(np.float32)).max()
        assert np.abs(tensor.dequantize() - MATRIX).max() <= step / 2 * 1.001
        for array in (tensor.codes, tensor.scales, tensor.zero_points):
            assert array is not None
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    for array in (weights["plain"], weights["half"], brain.bits):
        assert array.ctypes.data % 64 == 0
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_views_outlive_the_loader_and_the_file(weights_file: Path) -> None:
    view = WeightLoader(weights_file).get_layer("plain")
    weights_file.unlink()
    np.testing.assert_array_equal(view, MATRIX)


def test_lazy_weights_are_float32_cached_and_unloaded(weights_file: Path) -> None:
    loader = WeightLoader(weights_file.parent, lazy=True)
    weights = loader.load_weights()
    assert isinstance(weights, LazyWeightDict)
    assert loader.get_cached_layers() == []
    first = weights["int4"]
    assert first.dtype == np.float32
    assert weights["int4"] is first
    np.testing.assert_array_equal(weights["plain"], MATRIX)
    assert loader.get_cached_layers() == ["int4", "plain"]
    # The plain tensor is a view of the file and takes no room.
    assert loader.get_cache_size_mb() == pytest.approx(MATRIX.nbytes / 1e6)
    loader.unload_layer("int4")
    assert loader.get_cached_layers() == ["plain"]
    assert weights["int4"] is not first
    loader.clear_cache()
    assert loader.get_cached_layers() == []
    assert loader.get_cache_size_mb() == 0


def test_a_missing_tensor_is_a_key_error(weights_file: Path) -> None:
    for lazy in (False, True):
        weights = WeightLoader(weights_file, lazy=lazy).load_weights()
        assert "absent" not in weights
        with pytest.raises(KeyError, match="absent"):
            weights["absent"]


@pytest.mark.torch
def test_torch_tensors_are_copies_with_the_same_values(weights_file: Path) -> None:
    torch = pytest.importorskip("torch")
    weights = WeightLoader(weights_file, framework="torch").load_weights()
    assert torch.equal(weights["plain"], torch.from_numpy(MATRIX.copy()))
    assert weights["brain"].dtype == torch.bfloat16
    np.testing.assert_array_equal(weights["brain"].float().numpy().view(np.uint32) >> 16, BRAIN)


def test_unknown_frameworks_and_paths_are_refused(weights_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="numpy or torch"):
        WeightLoader(weights_file, framework="jax")
    with pytest.raises(ModelLoadError, match="not found"):
        WeightLoader(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"weights\.parquet"):
        WeightLoader(tmp_path / "empty")
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(WeightError, match=r"text\.parquet: not a Parquet file"):
        WeightLoader(tmp_path / "text.parquet")


def test_other_readers_see_the_same_table(weights_file: Path) -> None:
    import duckdb
    import polars

    table = pq.read_table(weights_file)
    assert table.column_names == list(SCHEMA_V2)
    types = [str(field.type).replace("element: ", "").replace(" not null", "") for field in table.schema]
    assert types == list(SCHEMA_V2.values())
    data = table["data"].to_pylist()
    np.testing.assert_array_equal(np.frombuffer(data[0], np.float32).reshape(33, 64), MATRIX)
    frame = polars.read_parquet(weights_file)
    assert frame["data"].to_list() == data
    assert frame["shape"].to_list() == table["shape"].to_pylist() == [[33, 64]] * 6
    rows = duckdb.sql(f"select * from read_parquet('{weights_file}')").fetchall()
    assert [row[3] for row in rows] == data
    assert [row[6:8] for row in rows] == list(zip(frame["scales"], frame["zero_points"], strict=True))
    sizes = duckdb.sql(f"select sum(num_params) from read_parquet('{weights_file}')").fetchall()
    assert sizes == [(6 * MATRIX.size,)]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "snappy", "data_page_version": "2.0"},
        {"compression": "none", "use_dictionary": False},
        {"compression": "gzip", "row_group_size": 2},
        {"compression": "lz4", "data_page_size": 64},
    ],
)
def test_files_of_pyarrow_are_decoded(
    weights_file: Path, options: dict, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = weights_file.with_name("foreign.parquet")
    pq.write_table(pq.read_table(weights_file), foreign, **options)
    with caplog.at_level(logging.DEBUG, "ai_os_diffusion"):
        loader = WeightLoader(foreign)
    assert "decoded" in caplog.text
    original = WeightLoader(weights_file).load_weights()
    weights = loader.load_weights()
    assert not weights.native.zero_copy
    assert weights.native.verify() == 6
    for name in original:
        np.testing.assert_array_equal(weights.native.dequantize(name), original.native.dequantize(name))


def foreign_table(**columns: object) -> pa.Table:
    """A V1 table as any pyarrow program would write it."""
    base = {
        "layer_name": pa.array(["a", "b"], pa.large_string()),
        "shape": pa.array([[33, 64], [64]], pa.list_(pa.int64())),
        "dtype": pa.array(["torch.float32", "float16"]).dictionary_encode(),
        "data": pa.array([MATRIX.tobytes(), MATRIX[0].astype(np.float16).tobytes()], pa.large_binary()),
        "num_params": pa.array([MATRIX.size, 64], pa.int64()),
    }
    return pa.table({**base, **columns})


def test_wide_types_and_torch_dtypes_load(tmp_path: Path) -> None:
    path = tmp_path / "v1.parquet"
    pq.write_table(foreign_table(extra=pa.array([1, 2])), path)
    loader = WeightLoader(path)
    assert loader.get_schema_version() == 1
    weights = loader.load_weights()
    np.testing.assert_array_equal(weights["a"], MATRIX)
    np.testing.assert_array_equal(weights["b"], MATRIX[0].astype(np.float16))
    assert weights["a"].ctypes.data % 64 == 0


@pytest.mark.parametrize("axis", [0, -1])
def test_foreign_quantised_rows_follow_the_documented_defaults(tmp_path: Path, axis: int) -> None:
    """Codes row by row, lowest bits first; float32 scales; one-byte zero points where there are any."""
    codes = RNG.integers(0, 16, (4, 8), dtype=np.uint8)
    packed = codes[:, ::2] | codes[:, 1::2] << 4
    groups = 1 if axis == -1 else 4
    scales = np.linspace(0.5, 2, groups, dtype=np.float32)
    zeros = np.arange(groups, dtype=np.uint8) + 3
    path = tmp_path / "v2.parquet"
    table = pa.table(
        {
            "layer_name": ["q", "plain"],
            "shape": pa.array([[4, 8], [3]], pa.list_(pa.int32())),
            "dtype": ["float32", "float32"],
            "data": [packed.tobytes(), np.float32([1, 2, 3]).tobytes()],
            "num_params": pa.array([32, 3], pa.int64()),
            "quant_type": ["int4", None],
            "scales": [scales.tobytes(), None],
            "zero_points": [zeros.tobytes(), None],
            "quant_axis": pa.array([axis, None], pa.int32()),
            "group_size": pa.array([0, None], pa.int32()),
        }
    )
    pq.write_table(table, path)
    file = WeightFile(path)
    assert file.info("q")["packing"] == "row_major"
    expected = (codes.astype(np.float32) - zeros[:, None].astype(np.float32)) * scales[:, None]
    np.testing.assert_array_equal(file.dequantize("q"), np.broadcast_to(expected, (4, 8)))
    np.testing.assert_array_equal(file.unpacked_codes("q"), codes)
    np.testing.assert_array_equal(file.plain("plain"), [1, 2, 3])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"dtype": pa.array(["int64", "float16"])}, r"unknown dtype \"int64\".*float32, float16, bfloat16"),
        ({"layer_name": pa.array(["a", "a"])}, r"tensor \"a\" occurs twice"),
        ({"shape": pa.array([[-33, 64], [64]])}, r"tensor \"a\": shape \[-33, 64\] has a negative axis"),
        ({"shape": pa.array([[2**40, 2**40], [64]])}, "too large to address"),
        ({"num_params": pa.array([2112, 63])}, r"tensor \"\w+\": shape \[64\] contradicts num_params"),
        (
            {"shape": pa.array([[33, 63], [64]]), "num_params": pa.array([2079, 64])},
            r"tensor \"a\": data.*expected 8316 bytes, got 8448",
        ),
        ({"shape": pa.array(["33x64", "64"])}, 'column "shape": expected a list of integers'),
        ({"data": pa.array([1, 2])}, 'column "data": expected binary'),
    ],
)
def test_contradictions_are_named(tmp_path: Path, columns: dict, message: str) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(foreign_table(**columns), path)
    with pytest.raises(WeightError, match=message) as caught:
        WeightLoader(path)
    assert str(path) in str(caught.value)


def test_missing_columns_and_unknown_words_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    for name in SCHEMA_V1:
        pq.write_table(foreign_table().drop_columns([name]), path)
        with pytest.raises(WeightError, match=f'column "{name}"'):
            WeightLoader(path)
    table = foreign_table()
    pq.write_table(table.replace_schema_metadata({"aios.format_version": "2"}), path)
    with pytest.raises(WeightError, match=r'unknown aios.format_version "2", expected one of 1'):
        WeightLoader(path)
    v2 = {
        "quant_type": ["int3", "int8"],
        "scales": [b"", b""],
        "zero_points": [b"", b""],
        "quant_axis": pa.array([0, 0], pa.int32()),
        "group_size": pa.array([0, 0], pa.int32()),
    }
    pq.write_table(foreign_table(**v2), path)
    with pytest.raises(WeightError, match=r'tensor "a": unknown quant_type "int3"'):
        WeightLoader(path)
    pq.write_table(foreign_table(**{**v2, "quant_type": ["int8", "int8"]}).slice(0, 1), path)
    with pytest.raises(WeightError, match=r"data of int8 .*expected 2112 bytes, got 8448"):
        WeightLoader(path)
    packed = foreign_table(**v2).replace_schema_metadata({"aios.packing": "tiles"})
    pq.write_table(packed.set_column(5, "quant_type", pa.array(["int8", "int8"])), path)
    with pytest.raises(WeightError, match=r'unknown packing "tiles", expected one of panel16, row_major'):
        WeightLoader(path)


def test_inspection_counts_every_bit(weights_file: Path) -> None:
    (weights_file.parent / "metadata.json").write_text('{"model_type": "encoder"}')
    report = inspect_model(weights_file.parent)
    assert report["metadata"] == {"model_type": "encoder"}
    assert report["schema_version"] == 2
    assert report["num_params"] == 6 * MATRIX.size
    assert report["bits_per_weight"] == weights_file.stat().st_size * 8 / report["num_params"]
    int4 = next(tensor for tensor in report["tensors"] if tensor["name"] == "int4")
    # 48 padded rows: 4 bits a code, and for each 32 columns a scale and a minimum of 16 bits.
    assert int4["bits_per_weight"] == (4 + 32 / 32) * 48 / 33
    (weights_file.parent / "metadata.json").write_text("[")
    with pytest.raises(ModelLoadError, match=r"metadata\.json"):
        inspect_model(weights_file)


CHILD = """
import sys
from ai_os_diffusion.inference.weight_loader import WeightLoader

def memory(key, path="/proc/self/status"):
    return next(int(line.split()[1]) for line in open(path) if line.startswith(key))

before = memory("VmRSS")
weights = WeightLoader(sys.argv[1]).load_weights()
views = [weights[name] for name in weights]
opened = memory("VmRSS")
total = sum(float(view.sum()) for view in views)
print(opened - before, memory("VmRSS") - opened)
if len(sys.argv) > 2:
    input()
"""


def test_a_writer_never_replaces_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightError, match="pipe: expected a regular file or a free name, got a pipe"):
        WeightWriter(tmp_path / "pipe", {})
    writer = WeightWriter(tmp_path / "late", {})
    writer.add_plain("t", np.zeros((2, 2), np.float32))
    os.mkfifo(tmp_path / "late")
    with pytest.raises(WeightError, match="late: expected a regular file or a free name, got a pipe"):
        writer.finish()
    assert (tmp_path / "late").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late", "pipe"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_opening_takes_no_memory_and_two_processes_share_the_pages(tmp_path: Path) -> None:
    path = tmp_path / "weights.parquet"
    writer = WeightWriter(path, {}, 1)
    for i in range(12):
        writer.add_plain(f"layer.{i}", np.full((1 << 10, 1 << 10), i, np.float32))
    size_kib = writer.finish() // 1024
    command = [sys.executable, "-c", CHILD, str(path), "wait"]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            opened, touched = map(int, child.stdout.readline().split())
            assert opened < 5 * 1024
            assert touched > size_kib * 0.9
        for child in children:
            private = shared = 0
            inside = False
            for line in Path(f"/proc/{child.pid}/smaps").read_text().splitlines():
                if "-" in line.split(maxsplit=1)[0]:
                    inside = line.endswith("weights.parquet")
                elif inside and line.startswith("Private"):
                    private += int(line.split()[1])
                elif inside and line.startswith("Shared"):
                    shared += int(line.split()[1])
            assert private == 0
            assert shared > size_kib * 0.9
    finally:
        for child in children:
            child.communicate("\n")
