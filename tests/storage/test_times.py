"""Times come in any unit and form that tells what it is, and those out of range are refused by name."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError

MOMENT = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SECONDS = MOMENT.timestamp()
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def row(memory_id: str, created_at: object) -> dict:
    return {"memory_id": memory_id, "content": "", "embedding": [1.0, 2.0], "created_at": created_at}


def table_of(kind, values):
    import pyarrow as pa

    columns = [row(f"m{i}", None) for i in range(len(values))]
    table = pa.Table.from_pylist(columns).drop_columns(["created_at"])
    return table.append_column("created_at", pa.array(values, kind))


def created(store: ArrowStorage) -> list[float]:
    return [memory["created_at"] for memory in store]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Vienna"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_timestamp_has_its_unit(tmp_path, unit, zone):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = table_of(pa.timestamp(unit, tz=zone), [int(SECONDS) * UNITS[unit], None, -UNITS[unit]])
    pq.write_table(table, tmp_path / "in.parquet")
    for name, take in [
        ("a", lambda s: s.save_many(table)),
        ("b", lambda s: s.import_parquet(tmp_path / "in.parquet")),
    ]:
        with ArrowStorage(tmp_path / name) as store:
            assert take(store) == 3
            first, now, before = created(store)
            assert (first, before) == (SECONDS, -1)
            assert abs(datetime.now(tz=timezone.utc) - datetime.fromtimestamp(now, timezone.utc)) < timedelta(
                hours=1
            )
            assert store.count({"@created_at": SECONDS}) == 1


def test_files_of_polars_and_duckdb_and_old_spark(tmp_path):
    pl = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pl.DataFrame([row("a", MOMENT), row("b", MOMENT.replace(tzinfo=None).astimezone(timezone.utc))])
    for unit in ("ms", "us", "ns"):
        frame.with_columns(pl.col("created_at").cast(pl.Datetime(unit, "UTC"))).write_parquet(
            tmp_path / f"polars_{unit}.parquet"
        )
    duckdb.sql(
        "copy (select 'a' memory_id, '' as content, [1.0::float, 2.0] embedding, "
        "{'k': 1, 'l': ['x']} metadata, timestamp '2020-01-02 03:04:05' created_at, "
        "date '2020-01-03' updated_at) "
        f"to '{tmp_path}/duckdb.parquet' (format parquet)"
    )
    pq.write_table(
        table_of(pa.timestamp("ns"), [int(SECONDS) * 10**9]),
        tmp_path / "spark.parquet",
        use_deprecated_int96_timestamps=True,
    )
    for file in sorted(tmp_path.glob("*.parquet")):
        with ArrowStorage(tmp_path / file.stem) as store:
            assert store.import_parquet(file) >= 1, file
            assert store["a" if "a" in store else "m0"]["created_at"] == SECONDS, file
    with ArrowStorage(tmp_path / "duckdb") as store:
        assert store["a"]["metadata"] == {"k": 1, "l": ["x"]}
        assert store["a"]["updated_at"] == datetime(2020, 1, 3, tzinfo=timezone.utc).timestamp()


FORMS = [
    SECONDS,
    int(SECONDS),
    np.int64(SECONDS),
    np.float64(SECONDS),
    MOMENT,
    MOMENT.replace(tzinfo=None),
    MOMENT.astimezone(timezone(timedelta(hours=5))),
    "2020-01-02T03:04:05Z",
    "2020-01-02 03:04:05",
    "2020-01-02T04:04:05.000000000+01:00",
    np.datetime64("2020-01-02T03:04:05", "s"),
    np.datetime64("2020-01-02T03:04:05", "ns"),
]


@pytest.mark.parametrize("value", FORMS, ids=repr)
def test_a_time_comes_in_many_forms(tmp_path, value):
    with ArrowStorage(tmp_path / "s") as store:
        store.save_many([row("a", value), row("b", None)])
        assert store["a"]["created_at"] == SECONDS
        assert store["b"]["created_at"] == store["b"]["updated_at"] > SECONDS


def test_a_day_is_its_beginning(tmp_path):
    with ArrowStorage(tmp_path) as store:
        store.save_many([row("a", date(2020, 1, 2)), row("b", np.datetime64("2020-01-02"))])
        assert created(store) == [datetime(2020, 1, 2, tzinfo=timezone.utc).timestamp()] * 2


BAD = [SECONDS * 1000, 1e15, -1e12, float("nan"), float("inf"), 10**30, True, [], "soon", "2020-13-01", 1e300]


@pytest.mark.parametrize("value", [*BAD, np.datetime64("NaT"), np.datetime64(10**12, "s")], ids=repr)
def test_a_time_out_of_range_is_refused_by_name(tmp_path, value):
    with ArrowStorage(tmp_path) as store:
        with pytest.raises(StorageError, match=r"created_at of 'b': expected a time of the years 1 to 9999"):
            store.save_many([row("a", MOMENT), row("b", value)])
        assert store.count() == 0


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_a_line_with_a_time_out_of_range_is_named(tmp_path, value):
    lines = [json.dumps(row("a", SECONDS)), json.dumps(row("b", value))]
    (tmp_path / "in.jsonl").write_text("\n\n".join(lines))
    with ArrowStorage(tmp_path / "s") as store:
        with pytest.raises(StorageError, match=r"in\.jsonl, line 3: created_at of 'b': expected a time"):
            store.import_jsonl(tmp_path / "in.jsonl")
        assert store.count() == 0


def test_a_row_with_a_time_out_of_range_is_named(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    tables = {
        "s": table_of(pa.timestamp("ms"), [0, int(SECONDS) * 10**6]),
        "whole": table_of(pa.int64(), [0, int(SECONDS) * 1000]),
        "part": table_of(pa.float64(), [0.0, float("nan")]),
        "text": table_of(pa.string(), ["2020-01-01", "soon"]),
    }
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with ArrowStorage(tmp_path / name) as store:
            with pytest.raises(StorageError, match=r"created_at in row [01]: expected a time of the years"):
                store.import_parquet(tmp_path / f"{name}.parquet")
            with pytest.raises(StorageError, match=r"created_at of 'm1': expected a time of the years"):
                store.save_many(table)
            assert store.count() == 0


def test_seconds_are_what_plain_numbers_are(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for kind in (pa.int64(), pa.float64(), pa.int32()):
        pq.write_table(table_of(kind, [int(SECONDS)]), tmp_path / "in.parquet")
        with ArrowStorage(tmp_path / str(kind)) as store:
            store.import_parquet(tmp_path / "in.parquet")
            assert created(store) == [SECONDS]


def test_times_go_out_and_in_unchanged(tmp_path: Path):
    first, last = (
        datetime.min.replace(tzinfo=timezone.utc),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc),
    )
    with ArrowStorage(tmp_path / "a") as source:
        source.save_many([row("a", first), row("b", last), row("c", MOMENT)])
        source.export_jsonl(tmp_path / "out.jsonl")
        source.export_parquet(tmp_path / "out.parquet")
        expected = created(source)
    for kind in ("jsonl", "parquet"):
        with ArrowStorage(tmp_path / kind) as target:
            getattr(target, f"import_{kind}")(tmp_path / f"out.{kind}")
            assert created(target) == expected
