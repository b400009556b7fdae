"""Tables written by the pandas, pyarrow and polars that are installed go into a store.

Each run writes the files anew, in the forms that their newest releases have by default and on request.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage

pytestmark = pytest.mark.torch

TIME = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.timezone.utc)
ROWS: dict[str, list[Any]] = {
    "memory_id": ["a", "b", "ü"],
    "content": ["first", "", "third 😀"],
    "embedding": [[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]],
    "metadata": ['{"n": 1}', "{}", '{"deep": {"x": [null]}}'],
}


def with_pandas(path: Path, times: bool, **options: Any) -> None:
    pandas = pytest.importorskip("pandas")
    columns = {**ROWS, "embedding": [np.array(row, np.float32) for row in ROWS["embedding"]]}
    columns |= {"created_at": [TIME] * 3, "updated_at": [TIME] * 3} if times else {}
    pandas.DataFrame(columns).to_parquet(path, **options)


def with_polars(path: Path, times: bool, **options: Any) -> None:
    polars = pytest.importorskip("polars")
    columns = {**ROWS, **({"created_at": [TIME] * 3, "updated_at": [TIME] * 3} if times else {})}
    polars.DataFrame(columns).write_parquet(path, **options)


def with_pyarrow(path: Path, times: bool, **options: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    types = {
        "memory_id": options.pop("text", pa.string()),
        "content": options.pop("content", pa.string()),
        "embedding": options.pop("vector", pa.list_(pa.float32())),
        "metadata": pa.string(),
    }
    stamp = options.pop("stamp", pa.timestamp("us", "UTC"))
    columns = {name: pa.array(ROWS[name], kind) for name, kind in types.items()}
    if times:
        columns |= {name: pa.array([TIME] * 3, stamp) for name in ("created_at", "updated_at")}
    pq.write_table(pa.table(columns), path, **options)


def pyarrow_forms() -> dict[str, dict[str, Any]]:
    try:
        import pyarrow as pa
    except ImportError:
        return {}
    return {
        "defaults": {},
        "newest version of the format": {"version": "2.6", "data_page_version": "2.0"},
        "oldest version of the format": {"version": "1.0"},
        "without dictionaries": {"use_dictionary": False},
        "without the schema of Arrow": {"store_schema": False},
        "zstd": {"compression": "zstd"},
        "gzip": {"compression": "gzip"},
        "lz4": {"compression": "lz4"},
        "none": {"compression": "none"},
        "delta lengths": {
            "use_dictionary": False,
            "column_encoding": {"content": "DELTA_LENGTH_BYTE_ARRAY", "memory_id": "DELTA_BYTE_ARRAY"},
        },
        "split bytes": {
            "use_dictionary": False,
            "column_encoding": {"embedding.list.element": "BYTE_STREAM_SPLIT"},
        },
        "checksums of pages": {"write_page_checksum": True},
        "an index of pages": {"write_page_index": True},
        "small groups": {"row_group_size": 1},
        "large texts": {"text": pa.large_string(), "content": pa.large_string()},
        "views of texts": {"text": pa.string_view(), "content": pa.string_view()},
        "fixed lists": {"vector": pa.list_(pa.float32(), 2)},
        "large lists": {"vector": pa.large_list(pa.float32())},
        "doubles": {"vector": pa.list_(pa.float64())},
        "milliseconds": {"stamp": pa.timestamp("ms", "UTC")},
    }


FORMS: list[tuple[str, Callable[..., None], dict[str, Any]]] = [
    *((f"pyarrow, {name}", with_pyarrow, options) for name, options in pyarrow_forms().items()),
    ("polars", with_polars, {}),
    ("polars, through pyarrow", with_polars, {"use_pyarrow": True}),
    *((f"polars, {kind}", with_polars, {"compression": kind}) for kind in ("snappy", "gzip", "lz4")),
    ("pandas", with_pandas, {}),
    ("pandas, with its index", with_pandas, {"index": True}),
    ("pandas, zstd", with_pandas, {"compression": "zstd"}),
]


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize(("write", "options"), [pytest.param(*form[1:], id=form[0]) for form in FORMS])
def test_a_table_goes_in(
    tmp_path: Path, write: Callable[..., None], options: dict[str, Any], times: bool
) -> None:
    write(tmp_path / "in.parquet", times, **dict(options))
    with ArrowStorage(tmp_path / "s") as store:
        assert store.import_parquet(tmp_path / "in.parquet") == 3
        found = {memory["memory_id"]: memory for memory in store}
    assert list(found) == ROWS["memory_id"]
    assert [memory["content"] for memory in found.values()] == ROWS["content"]
    assert [memory["embedding"].tolist() for memory in found.values()] == ROWS["embedding"]
    assert found["ü"]["metadata"] == {"deep": {"x": [None]}}
    if times:
        assert {memory["created_at"] for memory in found.values()} == {TIME.timestamp()}
