"""Segments are plain Parquet, and tables go in and out by Arrow, Parquet and JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import DimensionError, StorageError
from support.memories import plain


def fill(path: Path, count: int = 700) -> ArrowStorage:
    rng = np.random.default_rng(0)
    store = ArrowStorage(path)
    store.save_many(
        {
            "memory_id": f"m{i:05d}",
            "content": f"Text {i} — äöü 😀 " * (i % 50),
            "embedding": rng.standard_normal(5).astype(np.float32),
            "metadata": {"i": i, "nested": {"x": [i, None]}},
        }
        for i in range(count)
    )
    return store


def rows_of(table) -> list[tuple]:
    return [
        (
            row["memory_id"],
            row["content"],
            json.loads(row["metadata"]),
            list(row["embedding"]),
            row["created_at"].timestamp(),
            row["updated_at"].timestamp(),
        )
        for row in table.to_pylist()
    ]


def segment_of(store: ArrowStorage) -> str:
    store.flush()
    (segment,) = Path(store.path).glob("seg-*.parquet")
    return str(segment)


def test_pyarrow_reads_a_segment(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    with fill(tmp_path) as store:
        file = pq.ParquetFile(segment_of(store))
        table = file.read()
        assert rows_of(table) == plain(store)
        field = table.schema.field("embedding")
        assert field.type == pa.list_(pa.field("element", pa.float32(), nullable=False), 5)
        assert table.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
        row_group = file.metadata.row_group(0)
        assert {row_group.column(i).compression for i in range(6)} == {"ZSTD"}


@pytest.mark.parametrize("dimension", [1, 255, 256, 65536])
def test_the_arrow_schema_is_the_one_pyarrow_writes(tmp_path, dimension):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    with ArrowStorage(tmp_path) as store:
        store.save("a", "text", np.ones(dimension))
        written = pq.ParquetFile(segment_of(store)).metadata.metadata[b"ARROW:schema"]
    time = pa.timestamp("us", tz="UTC")
    types = {"memory_id": pa.string(), "content": pa.string(), "metadata": pa.string(), "created_at": time}
    types |= {"updated_at": time, "embedding": pa.list_(pa.field("element", pa.float32(), False), dimension)}
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])
    pq.write_table(schema.empty_table(), tmp_path / "reference.parquet")
    assert written == pq.ParquetFile(tmp_path / "reference.parquet").metadata.metadata[b"ARROW:schema"]


def test_duckdb_reads_a_segment(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    with fill(tmp_path) as store:
        rows = duckdb.sql(
            "select memory_id, content, metadata, embedding, epoch_us(created_at), epoch_us(updated_at) "
            f"from '{segment_of(store)}' order by memory_id"
        ).fetchall()
        found = [
            (i, c, json.loads(m), list(e), created / 1e6, updated / 1e6)
            for i, c, m, e, created, updated in rows
        ]
        assert found == plain(store)


def test_polars_reads_a_segment(tmp_path):
    pl = pytest.importorskip("polars")
    with fill(tmp_path) as store:
        frame = pl.read_parquet(segment_of(store))
        assert frame.schema["embedding"] == pl.Array(pl.Float32, 5)
        assert frame["memory_id"].to_list() == [memory["memory_id"] for memory in store]
        assert frame["embedding"].to_list() == [memory["embedding"].tolist() for memory in store]
        assert frame["content"].to_list() == [memory["content"] for memory in store]


def test_copies_for_analysis(tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("polars")
    pytest.importorskip("duckdb")
    with fill(tmp_path) as store:
        store.flush()
        store.save("late", "in the log", [1, 2, 3, 4, 5])
        assert rows_of(store.to_arrow()) == plain(store)
        assert store.to_polars({"i": {"$lt": 10}}).height == 10
        relation = store.to_duckdb()
        assert relation.aggregate("count(*)").fetchall() == [(701,)]
    with ArrowStorage(tmp_path / "empty") as store:
        assert store.to_arrow().num_rows == 0


def test_arrow_data_is_saved(tmp_path):
    pa = pytest.importorskip("pyarrow")
    with fill(tmp_path / "a") as source, ArrowStorage(tmp_path / "b") as target:
        table = source.to_arrow()
        assert target.save_many(table) == 700
        assert [row[:4] for row in plain(target)] == [row[:4] for row in plain(source)]
        batch = table.slice(3, 2).to_batches()[0]
        assert target.save_many(batch) == 2
        wide = pa.table(
            {
                "memory_id": ["x"],
                "content": pa.array(["y"], pa.large_string()),
                "embedding": [[1.0, 2, 3, 4, 5]],
            }
        )
        wide = wide.append_column("metadata", pa.array([{"k": 1}]))
        assert target.save_many(wide) == 1
        assert target.load("x")["metadata"] == {"k": 1}
        with pytest.raises(StorageError, match="lacks the columns embedding"):
            target.save_many(table.drop_columns(["embedding"]))
        with pytest.raises(DimensionError, match="lists of one length, got 1, 2"):
            target.save_many(
                pa.table({"memory_id": ["x", "y"], "content": ["", ""], "embedding": [[1.0], [1.0, 2.0]]})
            )
        with pytest.raises(StorageError, match="nulls"):
            target.save_many(
                pa.table({"memory_id": ["x", None], "content": ["", ""], "embedding": [[1.0], [1.0]]})
            )


def test_polars_frames_are_saved(tmp_path):
    pytest.importorskip("pyarrow")
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {"memory_id": ["a", "b"], "content": ["x", "y"], "embedding": [[1.0, 2.0], [3.0, 4.0]]}
    )
    with ArrowStorage(tmp_path) as store:
        assert store.save_many(frame) == 2
        assert store.load("b")["embedding"].tolist() == [3, 4]


def test_parquet_out_and_in(tmp_path):
    with fill(tmp_path / "a") as source, ArrowStorage(tmp_path / "b") as target:
        source.delete("m00003")
        assert source.export_parquet(tmp_path / "out.parquet") == 699
        assert target.import_parquet(tmp_path / "out.parquet") == 699
        assert plain(target) == plain(source)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out.parquet"]


def test_json_lines_out_and_in(tmp_path):
    with fill(tmp_path / "a", 50) as source, ArrowStorage(tmp_path / "b") as target:
        assert source.export_jsonl(tmp_path / "out.jsonl") == 50
        assert target.import_jsonl(tmp_path / "out.jsonl") == 50
        assert plain(target) == plain(source)
        (tmp_path / "bad.jsonl").write_text(
            '{"memory_id": "a", "content": "", "embedding": [1,2,3,4,5]}\n\n{"mem'
        )
        with pytest.raises(StorageError, match=r"bad\.jsonl, line 3: expected a JSON object"):
            target.import_jsonl(tmp_path / "bad.jsonl")
        assert target.load("a") is None


@pytest.mark.parametrize("export", ["export_parquet", "export_jsonl"])
def test_only_files_are_replaced(tmp_path, export):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "out.tmp").write_text("a user's own")
    with fill(tmp_path / "s", 3) as store:
        for name in ("pipe", "link", "s"):
            with pytest.raises(StorageError, match="regular file") as raised:
                getattr(store, export)(tmp_path / name)
            assert "draft" not in str(raised.value)
        assert getattr(store, export)(tmp_path / "out") == 3
        with pytest.raises(StorageError, match=r"no/out: ") as raised:
            getattr(store, export)(tmp_path / "no" / "out")
        assert "draft" not in str(raised.value)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "out.tmp").read_text() == "a user's own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out", "out.tmp", "pipe", "s"]


def test_parquet_of_others_is_imported(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "memory_id": ["a", "b"],
            "content": ["x", "y"],
            "embedding": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64())),
            "colour": ["red", "blue"],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    with ArrowStorage(tmp_path / "s") as store:
        assert store.import_parquet(tmp_path / "in.parquet") == 2
        assert store.load("b")["embedding"].tolist() == [3, 4]
        pq.write_table(table.drop_columns(["content"]), tmp_path / "in.parquet")
        with pytest.raises(StorageError, match="memory_id, content and embedding"):
            store.import_parquet(tmp_path / "in.parquet")
        (tmp_path / "in.parquet").write_bytes(b"PAR1 this is no table PAR1")
        with pytest.raises(StorageError, match="Parquet file"):
            store.import_parquet(tmp_path / "in.parquet")
        with pytest.raises(StorageError, match="cannot open"):
            store.import_parquet(tmp_path / "missing.parquet")


def of_model(path: Path, model: str | None, memory_id: str | None) -> ArrowStorage:
    store = ArrowStorage(path, model=model)
    if memory_id is not None:
        store.save(memory_id, f"by {model}", [1, 2])
    return store


def test_compression_that_cannot_be_read_is_named(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"memory_id": ["a"], "content": ["x"], "embedding": [[1.0]]})
    pq.write_table(table, tmp_path / "in.parquet", compression={"content": "brotli"})
    with ArrowStorage(tmp_path / "s") as store:
        with pytest.raises(StorageError, match=r"column .content.: expected .*zstd.*, got brotli; write"):
            store.import_parquet(tmp_path / "in.parquet")
        assert len(store) == 0


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_vectors_of_another_model_are_refused(tmp_path, kind):
    file = tmp_path / f"out.{kind}"
    with of_model(tmp_path / "a", "minilm@sha256:0123", "a") as source:
        getattr(source, f"export_{kind}")(file)
    for i, model in enumerate(["bge", "minilm@sha256:4567"]):
        with of_model(tmp_path / f"b{i}", model, "b") as other:
            with pytest.raises(StorageError) as raised:
                getattr(other, f"import_{kind}")(file)
            for named in (str(file), model, "minilm@sha256:0123", "another store"):
                assert named in str(raised.value)
            assert [memory["memory_id"] for memory in other] == ["b"]
    for i, model in enumerate(["minilm", "minilm@sha256:0123", None]):
        with of_model(tmp_path / f"c{i}", model, "c") as same:
            assert getattr(same, f"import_{kind}")(file) == 1
            assert same.model == model


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("before", [None, "bge"])
def test_an_empty_store_takes_the_model_of_what_it_takes_in(tmp_path, kind, before):
    file = tmp_path / f"out.{kind}"
    with of_model(tmp_path / "a", "minilm", "a") as source:
        getattr(source, f"export_{kind}")(file)
    with (
        of_model(tmp_path / "b", before, None) as target,
        ArrowStorage(tmp_path / "b", read_only=True) as reader,
    ):
        assert getattr(target, f"import_{kind}")(file) == 1
        target.save("more", "text", [3, 4])
        assert (target.model, reader.model, reader.count()) == ("minilm", "minilm", 2)
    with pytest.raises(StorageError, match="minilm"):
        ArrowStorage(tmp_path / "b", model="bge")
    with ArrowStorage(tmp_path / "b", model="minilm@sha256:01") as store:
        assert store.is_made_by("minilm@sha256:23")
        assert not store.is_made_by("bge")


def test_lines_of_two_models_are_refused(tmp_path):
    line = '{{"memory_id": "{0}", "content": "", "embedding": [1, 2], "model": "{0}"}}\n'
    (tmp_path / "mixed.jsonl").write_text(line.format("a") + line.format("b"))
    with ArrowStorage(tmp_path / "s") as store:
        with pytest.raises(StorageError, match="expected vectors of one model, got a, b"):
            store.import_jsonl(tmp_path / "mixed.jsonl")
        assert store.count() == 0


def test_segments_and_exports_say_their_model(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    with of_model(tmp_path / "s", "minilm", "a") as store:
        store.export_parquet(tmp_path / "out.parquet")
        for file in (tmp_path / "out.parquet", segment_of(store)):
            assert pq.read_metadata(file).metadata[b"aios.model"] == b"minilm"


def test_nothing_to_export_is_said(tmp_path):
    with ArrowStorage(tmp_path / "s") as store:
        with pytest.raises(StorageError, match="export: expected a store that has held memories"):
            store.export_parquet(tmp_path / "out.parquet")
        store.save("a", "", [1])
        with pytest.raises(StorageError, match="cannot write"):
            store.export_parquet(tmp_path / "no" / "out.parquet")
        with pytest.raises(StorageError, match="cannot write"):
            store.export_jsonl(tmp_path / "no" / "out.jsonl")


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with (
        ArrowStorage(tmp_path) as store,
        pytest.raises(StorageError, match=r"pyarrow is not installed.*\[arrow\]"),
    ):
        store.to_arrow()
