"""An exported file that was damaged is refused before anything of it is stored."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import DiffusionError, StorageError
from support.memories import plain


def fill(path: Path, count: int = 40) -> ArrowStorage:
    store = ArrowStorage(path, model="minilm")
    store.save_many(
        {"memory_id": f"m{i}", "content": f"text {i} ä " * 20, "embedding": [1.0, i], "metadata": {"i": i}}
        for i in range(count)
    )
    return store


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_damage_is_found_wherever_it_is(tmp_path, kind):
    file = tmp_path / f"out.{kind}"
    with fill(tmp_path / "a") as source:
        getattr(source, f"export_{kind}")(file)
        expected = plain(source)
    data = file.read_bytes()
    dice = random.Random(5)
    flips = [(at, 1 << dice.randrange(8)) for at in [*range(60), *dice.sample(range(len(data)), 150)]]
    flips += [(len(data) - 1 - i, 1 << dice.randrange(8)) for i in range(60)]
    refused = 0
    for at, bit in flips:
        damaged = bytearray(data)
        damaged[at] ^= bit
        file.write_bytes(damaged)
        with ArrowStorage(tmp_path / "b") as target:
            told = ""
            try:
                getattr(target, f"import_{kind}")(file)
            except DiffusionError as error:
                told = str(error)
            # When it is taken, only the words that say whose file it is were hit.
            assert (file.name in told and target.count() == 0) or plain(target) == expected, (at, bit, told)
            refused += bool(told)
            target.delete_where({}, everything=True)
    assert refused > 0.9 * len(flips)
    for length in [*range(1, len(data), len(data) // 50), len(data) - 1]:
        file.write_bytes(data[:length])
        with ArrowStorage(tmp_path / "c") as target:
            with pytest.raises(StorageError, match=file.name):
                getattr(target, f"import_{kind}")(file)
            assert target.count() == 0


def test_a_changed_line_is_taken_when_asked_for(tmp_path):
    file = tmp_path / "out.jsonl"
    with fill(tmp_path / "a", 3) as source:
        source.export_jsonl(file)
    file.write_text(file.read_text().replace("text 1", "other 1"))
    with ArrowStorage(tmp_path / "b") as target:
        with pytest.raises(
            StorageError, match=r"out\.jsonl: .* it was damaged or changed since; verify=False"
        ):
            target.import_jsonl(file)
        assert target.import_jsonl(file, verify=False) == 3
        assert target["m1"]["content"].startswith("other 1")


def test_a_changed_table_is_taken_when_asked_for(tmp_path):
    file = tmp_path / "out.parquet"
    with fill(tmp_path / "a", 3) as source:
        source.export_parquet(file)
    data = file.read_bytes()
    file.write_bytes(data.replace(b"minilm", b"minilx"))
    with ArrowStorage(tmp_path / "b") as target:
        with pytest.raises(StorageError, match=r"it was damaged or changed since; verify=False"):
            target.import_parquet(file)
        assert target.import_parquet(file, verify=False) == 3


def test_what_others_made_of_an_export_is_theirs(tmp_path):
    pytest.importorskip("pyarrow")
    pl = pytest.importorskip("polars")
    import pyarrow.parquet as pq

    with fill(tmp_path / "a", 3) as source:
        source.export_parquet(tmp_path / "out.parquet")
        source.export_jsonl(tmp_path / "out.jsonl")
    # pyarrow keeps our notes about the file, polars does not.
    pq.write_table(pq.read_table(tmp_path / "out.parquet").slice(1), tmp_path / "pyarrow.parquet")
    pl.read_parquet(tmp_path / "out.parquet").tail(2).write_parquet(tmp_path / "polars.parquet")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    compact = [json.dumps(json.loads(line), separators=(",", ":")) for line in lines[:2]]
    (tmp_path / "jq.jsonl").write_text("\n".join(compact))
    (tmp_path / "tail.jsonl").write_text("\n".join(lines[1:]))
    for file in ("pyarrow.parquet", "polars.parquet", "jq.jsonl", "tail.jsonl"):
        with ArrowStorage(tmp_path / file.replace(".", "_")) as target:
            assert getattr(target, f"import_{file.split('.')[1]}")(tmp_path / file) == 2, file


def test_lines_stay_objects_that_any_reader_takes(tmp_path):
    with fill(tmp_path / "a", 2) as source:
        source.export_jsonl(tmp_path / "out.jsonl")
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert first.keys() == second.keys() | {"export"}
    with ArrowStorage(tmp_path / "empty") as empty:
        assert empty.export_jsonl(tmp_path / "none.jsonl") == 0
        assert empty.import_jsonl(tmp_path / "none.jsonl") == 0
