import json
import os
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage


@pytest.fixture
def added(aios_json, tiny_models, documents):
    aios_json("add", documents)
    return documents


def test_list_shows_place_and_text(aios, aios_json, added):
    listed = aios_json("memory", "list")
    assert len(listed) == 5
    assert len(aios_json("memory", "list", "--limit", "2")) == 2
    assert len(aios_json("memory", "list", "--source", added / "garden.md")) == 2
    assert len(aios_json("memory", "list", "--source", added)) == 5
    assert len(aios_json("memory", "list", "--filter", "kind=python")) == 1
    assert f"{added / 'trains.txt'}:1\tThe night train" in aios("memory", "list").stdout


def test_show_gives_one_memory_whole(aios, aios_json, added):
    memory_id = aios_json("memory", "list", "--filter", "kind=python")[0]["memory_id"]
    shown = aios_json("memory", "show", memory_id)
    assert shown["metadata"]["symbol"] == "mend"
    assert len(shown["embedding"]) == 32
    assert "def mend(fence):" in aios("memory", "show", memory_id).stdout
    assert aios("memory", "show", "nobody").exit_code == 3


def test_forget_by_id_filter_and_source(aios, aios_json, added):
    memory_id = aios_json("memory", "list", "--filter", "kind=python")[0]["memory_id"]
    assert aios_json("memory", "forget", memory_id, "--dry-run")["forgotten"] == [memory_id]
    assert aios_json("memory", "forget", memory_id, "--yes")["forgotten"] == [memory_id]
    assert aios_json("memory", "forget", "--filter", "kind=markdown", "--yes")["dry_run"] is False
    assert len(aios_json("memory", "forget", "--source", added / "trains.txt", "--yes")["forgotten"]) == 1
    assert len(aios_json("memory", "list")) == 1
    assert aios("memory", "forget", memory_id, "--yes").exit_code == 3
    assert aios("memory", "forget", "--yes").exit_code == 2


def test_an_id_may_be_shortened_to_what_tells_it_apart(aios, aios_json, added, tmp_path):
    with ArrowStorage(tmp_path / "store") as storage:
        vector = [1.0] * 32
        for memory_id in ("note_1", "note_10", "note_2"):
            storage.save(memory_id, f"Text of {memory_id}", vector)
    assert aios_json("memory", "show", "note_2")["memory_id"] == "note_2"
    assert aios_json("memory", "show", "note_10")["content"] == "Text of note_10"
    # One that is whole is itself, though another begins with it.
    assert aios_json("memory", "show", "note_1")["memory_id"] == "note_1"
    for verb in ("show", "forget"):
        error = aios_json("memory", verb, "note", code=2, error=True)
        assert "note_1, note_10, note_2" in error["message"]
    listed = aios_json("memory", "list", "--filter", "kind=python")[0]["memory_id"]
    assert aios_json("memory", "forget", listed[:8], "note_2", "--yes")["forgotten"] == [listed, "note_2"]


def test_a_file_in_place_of_an_id_leads_to_source(aios, added):
    for name in (added / "garden.md", added):
        for verb in ("show", "forget"):
            result = aios("memory", verb, name)
            assert result.exit_code == 3
            assert f"--source {name}" in result.stderr
    assert "--source" not in aios("memory", "forget", added / "picture.png").stderr


@pytest.mark.parametrize("filter", ['{"$and": []}', '{"$not": {"$or": []}}', '{"kind": {"$nin": []}}'])
def test_a_filter_that_asks_for_nothing_forgets_nothing(aios, aios_json, added, filter):
    held = aios_json("memory", "stats")["count"]
    refused = aios("memory", "forget", "--filter", filter, "--yes")
    assert refused.exit_code == 2
    assert "--all" in refused.stderr
    assert aios("memory", "forget", "--all", "--filter", "kind=python", "--yes").exit_code == 2
    assert aios_json("memory", "stats")["count"] == held > 0
    assert len(aios_json("memory", "forget", "--all", "--yes")["forgotten"]) == held
    assert aios_json("memory", "stats")["count"] == 0


def test_forget_asks_first(aios, aios_json, added):
    result = aios("memory", "forget", "--filter", "kind=python", input="n\n")
    assert result.exit_code == 1
    assert len(aios_json("memory", "list")) == 5
    assert aios("memory", "forget", "--filter", "kind=python", input="y\n").exit_code == 0
    assert len(aios_json("memory", "list")) == 4


def test_what_was_forgotten_is_added_again_from_its_file(aios_json, added):
    aios_json("memory", "forget", "--source", added / "trains.txt", "--yes")
    assert aios_json("add", added)["passages"]["added"] == 1


def test_compact_takes_what_was_forgotten_off_the_disk(aios, aios_json, added):
    store = Path(aios_json("memory", "stats")["path"])
    aios_json("memory", "forget", "--filter", "kind=python", "--yes")
    aios_json("add", "-", "--name", "more.txt", input="Apples ripen in September.")
    sizes = aios_json("memory", "compact")
    assert sizes["bytes_after"] > 0
    assert aios_json("memory", "stats")["dead_rows"] == 0
    assert aios_json("memory", "stats")["segments"] == 1
    assert len(aios_json("memory", "list")) == 5
    assert not [path.name for path in store.iterdir() if path.name.endswith(".draft")]
    assert "compacted from" in aios("memory", "compact").stderr


def test_stats_count(aios, aios_json, added):
    assert aios_json("memory", "stats")["count"] == 5
    assert "5" in aios("memory", "stats").stdout


def test_export_and_import(aios, aios_json, added, tmp_path):
    file = tmp_path / "memories.parquet"
    assert aios_json("memory", "export", file)["exported"] == 5
    assert aios("memory", "export", file, input="n\n").exit_code == 1
    other = ("--store", tmp_path / "other")
    assert aios_json("memory", "import", file, *other)["imported"] == 5
    assert len(aios_json("memory", "list", *other)) == 5
    assert aios("memory", "import", tmp_path / "none.parquet").exit_code == 3
    file.write_bytes(b"PAR1 nonsense")
    assert aios("memory", "import", file).exit_code in (1, 5)
    assert len(aios_json("memory", "list")) == 5


def test_export_and_import_of_json_lines(aios, aios_json, added, tmp_path):
    file = tmp_path / "memories.jsonl"
    assert aios_json("memory", "export", file)["exported"] == 5
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 5
    assert {row["model"] for row in rows} == {aios_json("memory", "stats")["model"]}
    other = ("--store", tmp_path / "other")
    assert aios_json("memory", "import", file, *other)["imported"] == 5
    assert aios_json("memory", "list", *other) == aios_json("memory", "list")


def test_other_formats_are_refused(aios, added, tmp_path):
    (tmp_path / "memories.csv").write_text("id,text\n")
    for verb in ("export", "import"):
        result = aios("memory", verb, tmp_path / "memories.csv", "--quiet")
        assert result.exit_code == 2
        assert "memories.csv: expected a name that ends in .parquet or .jsonl" in result.stderr
    assert (tmp_path / "memories.csv").read_text() == "id,text\n"


def test_import_refuses_vectors_of_another_encoder(aios, aios_json, added, tmp_path):
    file = tmp_path / "memories.jsonl"
    aios_json("memory", "export", file)
    model = aios_json("memory", "stats")["model"]
    file.write_text(file.read_text(encoding="utf-8").replace(model, "another"), encoding="utf-8")
    refused = aios("memory", "import", file)
    assert refused.exit_code == 1
    assert "--no-verify" in refused.stderr
    result = aios("memory", "import", "--no-verify", file)
    assert result.exit_code == 1
    assert "another" in result.stderr
    assert model in result.stderr


def test_export_never_replaces_a_pipe(aios, added, tmp_path):
    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    result = aios("memory", "export", pipe, "--yes")
    assert result.exit_code == 1
    assert f"cannot write {pipe}: expected a regular file or a free name, got a pipe" in result.stderr
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "verb", [("memory", "list"), ("memory", "stats"), ("memory", "show", "x"), ("recall", "x")]
)
def test_a_store_that_is_not_there_is_not_found(aios, tiny_models, verb):
    result = aios(*verb)
    assert result.exit_code == 3
    assert "aios add" in result.stderr


def test_one_memory_is_no_plural(aios, tiny_models, documents, tmp_path):
    assert aios("add", documents / "trains.txt").stdout.startswith("1 passage added;")
    file = tmp_path / "memories.parquet"
    assert aios("memory", "export", file).stderr.startswith("exported 1 memory:")
    asked = aios("memory", "forget", "--source", documents / "trains.txt", input="y\n")
    assert "Forget 1 memory?" in asked.stderr
    assert asked.stdout.endswith("forgot 1 memory\n")
    assert "1 file was read as windows-1252" in aios("add", documents / "old.txt").stderr
    (documents / "old.txt").unlink()
    assert "1 document in memory has no file any more; --prune forgets it" in aios("add", documents).stderr


def test_names_that_are_not_utf8_name_no_memory(aios, tiny_models, documents):
    aios("add", documents)
    assert aios("memory", "show", "caf\udce9").exit_code == 3
    assert aios("memory", "forget", "caf\udce9", "--yes").exit_code == 3
    assert aios("memory", "list", "--source", "caf\udce9").stdout == ""
