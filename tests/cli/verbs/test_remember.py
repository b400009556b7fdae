import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.answers.recall import RecallResult
from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import open_runtime
from ai_os_diffusion.runtime.answering import Answering
from ai_os_diffusion.storage import ArrowStorage
from support.reader_cards import reader_card
from support.terminal import on_terminal


def test_add_counts_files_and_what_it_left_out(aios_json, tiny_models, documents):
    report = aios_json("add", documents)
    assert report["files"] == {
        "added": 4,
        "changed": 0,
        "unchanged": 0,
        "empty": 1,
        "skipped": 2,
        "failed": 0,
    }
    assert report["passages"]["added"] == 5
    reasons = {Path(item["path"]).name: item["reason"] for item in report["skipped"]}
    assert "a picture" in reasons["picture.png"]
    assert "line 1 is not JSON" in reasons["broken.jsonl"]
    assert [(Path(item["path"]).name, item["reason"]) for item in report["ignored"]] == [
        (".hidden", "hidden")
    ]
    assert report["fallback_encodings"] == {"windows-1252": 1}


def test_a_line_that_is_not_json_costs_only_itself(aios, aios_json, tiny_models, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"text": "first"}\nnot json\n{"text": "last"}\n')
    report = aios_json("add", path, "--dry-run")
    assert (report["passages"]["added"], report["skipped"]) == (2, [])
    (told,) = report["documents"]
    assert (told["path"], told["outcome"], told["passages"]) == (str(path), "added", 2)
    assert [(remark["kind"], remark["lines"]) for remark in told["remarks"]] == [("damaged", [[2, 2]])]
    assert f"not all of {path}: line 2: not JSON" in aios("add", path).stderr
    found = {memory["content"] for memory in aios_json("memory", "list")}
    assert found == {"log.jsonl\nfirst", "log.jsonl\nlast"}


def test_adding_again_embeds_nothing(aios_json, tiny_models, documents):
    aios_json("add", documents)
    report = aios_json("add", documents)
    assert report["files"]["unchanged"] == 4
    assert report["passages"] == {"added": 0, "updated": 0, "removed": 0, "merged": 0}


def test_a_change_replaces_only_what_changed(aios_json, tiny_models, documents):
    aios_json("add", documents)
    (documents / "garden.md").write_text("# Garden\n\nNew words.\n\n# Meadow\n## Lawn\nMow it weekly.\n")
    report = aios_json("add", documents)
    assert report["files"]["changed"] == 1
    assert report["passages"] == {"added": 1, "updated": 1, "removed": 1, "merged": 0}
    texts = {memory["content"] for memory in aios_json("memory", "list")}
    assert "Garden\nNew words." in texts
    assert not any("Cut roses in March." in text for text in texts)


def test_a_file_that_became_empty_is_forgotten(aios_json, tiny_models, documents):
    aios_json("add", documents / "trains.txt")
    (documents / "trains.txt").write_text("")
    assert aios_json("add", documents / "trains.txt")["passages"]["removed"] == 1
    assert aios_json("memory", "list") == []
    assert aios_json("recall", "anything", code=6)["nearest"] is None


def test_duplicates_are_one_memory_with_both_places(aios_json, tiny_models, documents):
    (documents / "copies").mkdir()
    copy = documents / "copies" / "trains.txt"
    copy.write_bytes((documents / "trains.txt").read_bytes())
    assert aios_json("add", documents)["passages"]["merged"] == 1
    found = aios_json("recall", "The night train leaves at ten.", "-k", "1")["hits"][0]
    places = {found["source"], *(place["source"] for place in found["also"])}
    assert places == {str(copy), str(documents / "trains.txt")}
    copy.unlink()
    assert aios_json("add", documents, "--prune")["vanished"] == [str(copy)]
    found = aios_json("recall", "The night train leaves at ten.", "-k", "1")["hits"][0]
    assert (found["source"], found["also"]) == (str(documents / "trains.txt"), [])


def test_vanished_files_are_reported_and_pruned_only_on_request(aios_json, tiny_models, documents):
    aios_json("add", documents)
    (documents / "trains.txt").unlink()
    assert aios_json("add", documents)["passages"]["removed"] == 0
    assert aios_json("add", documents, "--prune")["passages"]["removed"] == 1


def test_a_name_that_is_not_utf8_holds_nothing_up(aios_json, aios, tiny_models, documents):
    (documents / os.fsdecode(b"caf\xe9.txt")).write_text("Coffee is black.")
    report = aios_json("add", documents)
    assert report["files"]["added"] == 4
    assert (
        "not UTF-8" in {Path(item["path"]).name: item["reason"] for item in report["skipped"]}[r"caf\xe9.txt"]
    )
    assert r"caf\xe9.txt: its name is not UTF-8" in aios("add", documents).stderr


def test_what_cannot_be_looked_at_is_not_forgotten(aios_json, tiny_models, documents, close_folder):
    (documents / "inner").mkdir()
    (documents / "inner" / "kept.txt").write_text("The attic is dry.")
    aios_json("add", documents)
    close_folder(documents / "inner")
    report = aios_json("add", documents, "--prune")
    assert report["passages"]["removed"] == 0
    reasons = {Path(item["path"]).name: item["reason"] for item in report["skipped"]}
    assert reasons["inner"] == "unreadable: Permission denied"


def test_dry_run_changes_nothing(aios_json, tiny_models, documents):
    report = aios_json("add", documents, "--dry-run")
    assert report["passages"]["added"] == 5
    assert report["dry_run"]
    assert aios_json("memory", "list", code=3, error=True)["type"] == "FileNotFoundError"


def test_standard_input_is_a_document(aios_json, tiny_models):
    aios_json("add", "-", input="First note.")
    aios_json("add", "-", input="Second note.")
    aios_json("add", "-", "--name", "todo.md", input="# Todo\nBuy milk.")
    listed = {memory["content"]: memory["metadata"]["source"] for memory in aios_json("memory", "list")}
    assert {text.split("\n")[-1] for text in listed} == {"First note.", "Second note.", "Buy milk."}
    assert listed["Todo\nBuy milk."] == "todo.md"


def test_a_missing_path_is_not_found(aios, tiny_models):
    result = aios("add", "nowhere")
    assert result.exit_code == 3
    assert "nowhere" in result.stderr


def test_an_empty_folder_adds_nothing(aios_json, tiny_models, tmp_path):
    (tmp_path / "void").mkdir()
    assert sum(aios_json("add", tmp_path / "void")["files"].values()) == 0


def test_a_model_that_is_not_pulled_is_not_found(aios, documents):
    result = aios("add", documents)
    assert result.exit_code == 3
    assert "aios pull minilm" in result.stderr


def test_recall_cites_file_and_line(aios, aios_json, tiny_models, documents):
    aios("add", documents)
    result = aios("recall", "The night train leaves at ten.", "-k", "1")
    assert result.exit_code == 0
    assert f"{documents / 'trains.txt'}:1" in result.stdout
    hit = aios_json("recall", "Mow it weekly.", "-k", "5", "--filter", "kind=markdown")["hits"]
    assert {found["source"] for found in hit} == {str(documents / "garden.md")}
    assert ("garden", "Meadow", "Lawn") in {tuple(found["headings"]) for found in hit}


@pytest.mark.parametrize("verb", ["recall", "ask"])
def test_a_question_needs_no_quotes(aios_json, tiny_models, documents, verb):
    aios_json("add", documents)
    unquoted = ("when", "do", "I", "-k", "3", "cut", "roses")
    assert aios_json(verb, *unquoted) == aios_json(verb, "when do I cut roses", "-k", "3")
    assert aios_json(verb, *unquoted)["question"] == "when do I cut roses"


@pytest.mark.parametrize("verb", ["recall", "ask"])
def test_a_question_may_be_put_to_one_document(aios, aios_json, tiny_models, documents, verb):
    aios_json("add", documents)
    found = aios_json(verb, "roses", "--source", documents / "trains.txt")
    hits = found["hits" if verb == "recall" else "passages"]
    assert {hit["source"] for hit in hits} == {str(documents / "trains.txt")}
    both = ("--source", documents, "--filter", "kind=python")
    hits = aios_json(verb, "roses", *both)["hits" if verb == "recall" else "passages"]
    assert {hit["source"] for hit in hits} == {str(documents / "tool.py")}
    result = aios(verb, "roses", "--source", documents / "none.txt")
    assert result.exit_code == 6
    assert "no memory meets the filter" in result.stderr


def test_a_question_may_come_from_standard_input(aios_json, tiny_models, documents):
    aios_json("add", documents)
    for verb in (("recall",), ("ask", "--max-tokens", "1")):
        assert aios_json(*verb, "-", input="Mow it weekly.")["question"] == "Mow it weekly."


def test_recall_abstains_with_6(aios, aios_json, tiny_models, documents):
    aios("add", documents)
    found = aios_json("recall", "zebra", "--min-similarity", "0.9999", code=6)
    assert (found["abstained"], found["hits"]) == (True, [])
    assert found["nearest"] < 0.9999


@pytest.mark.parametrize("options", [(), ("--all",)])
@pytest.mark.parametrize("named", ["the folder above", "the folder itself"])
def test_folders_of_our_own_are_no_documents(aios, aios_json, tiny_models, tmp_path, options, named):
    base = tmp_path / "work"
    (base / "notes").mkdir(parents=True)
    (base / "notes" / "a.txt").write_text("The night train leaves at ten.")
    encoder = Path(os.environ["AIOS_MODEL_ENCODER"])
    shutil.copytree(encoder, base / "models" / "tiny")
    for store in ("store", "another"):
        aios_json("add", base / "notes", "--store", base / store)
    # One whose first line is damaged is a store all the same.
    manifest = base / "another" / "MANIFEST"
    manifest.write_bytes(b"?" + manifest.read_bytes()[1:])
    own = [base / "another", base / "models" / "tiny", base / "store"]
    paths = [base] if named == "the folder above" else [base / "notes", *own]
    report = aios_json("add", *paths, *options, "--store", base / "store")
    skipped = {item["path"]: item["reason"] for item in report["skipped"]}
    assert sorted(skipped) == sorted(map(str, own))
    assert skipped[str(base / "store")].startswith("a memory store")
    assert skipped[str(base / "models" / "tiny")].startswith("a model")
    assert (report["files"]["unchanged"], report["files"]["skipped"]) == (1, 3)
    assert f"skipped {base / 'store'}: a memory store" in aios("add", base, "--store", base / "store").stderr
    assert aios("add", base / "store", "--store", base / "store").exit_code == 1


def test_recall_counts_what_it_does_not_show(aios, aios_json, tiny_models, documents, monkeypatch):
    aios("add", documents)
    monkeypatch.setattr(RecallResult, "near_hits", property(lambda found: found.hits[:1]))
    result = aios("recall", "Mow it weekly.")
    assert result.stderr == "4 passages far less similar; --all shows more\n"
    assert "trains.txt" not in result.stdout
    for option in ("--all", "--top=5"):
        result = aios("recall", "Mow it weekly.", option)
        assert (result.stderr, "trains.txt" in result.stdout) == ("", True)
    assert len(aios_json("recall", "Mow it weekly.")["hits"]) == 5


@pytest.mark.parametrize("question", ["", "   "])
def test_an_empty_question_is_wrong_usage(aios, tiny_models, question):
    assert aios("recall", question).exit_code == 2


def test_a_filter_that_nothing_meets_is_named(aios, tiny_models, documents):
    aios("add", documents)
    for verb in ("recall", "ask"):
        result = aios(verb, "x", "--filter", "kind=none")
        assert result.exit_code == 6
        assert "no memory meets the filter" in result.stderr


def test_a_bad_filter_is_wrong_usage(aios, tiny_models, documents):
    aios("add", documents)
    assert aios("recall", "x", "--filter", "nonsense").exit_code == 2
    assert aios("recall", "x", "--filter", '{"a": {"$near": 1}}').exit_code in (1, 2)


def test_a_store_of_another_encoder_is_refused(
    aios, tiny_models, documents, tiny_encoder_dir, tmp_path, monkeypatch
):
    import json
    import shutil

    aios("add", documents)
    other = tmp_path / "other"
    shutil.copytree(tiny_encoder_dir, other)
    metadata = json.loads((other / "metadata.json").read_text())
    metadata["source"]["name"] = "another"
    (other / "metadata.json").write_text(json.dumps(metadata))
    monkeypatch.setenv("AIOS_MODEL_ENCODER", str(other))
    result = aios("recall", "x")
    assert result.exit_code == 2
    assert "another" in result.stderr


def test_a_second_writer_is_locked_out(aios, tiny_models, documents, tmp_path):
    from ai_os_diffusion.storage import ArrowStorage

    aios("add", documents / "trains.txt")
    with ArrowStorage(tmp_path / "store"):
        result = aios("add", documents)
    assert result.exit_code == 4
    assert aios("add", documents).exit_code == 0


def test_ctrl_c_loses_nothing_that_was_committed(aios_json, tiny_models, command, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}.txt").write_text(f"Note {number} says {number * number}.")
    env = {**os.environ, "AIOS_PERFORMANCE_EMBED_BATCH": "1"}
    process = subprocess.Popen([*command, "add", str(folder), "--quiet"], env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "store" / "MANIFEST").exists() and aios_json("memory", "list", "-n", "1"):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    held = len(aios_json("memory", "list", "-n", "10000"))
    assert 0 < held < 2000
    report = aios_json("add", folder)
    assert report["files"]["unchanged"] == held
    assert report["passages"]["added"] == 2000 - held


def test_a_store_that_cannot_be_written_is_a_clear_failure(aios, tiny_models, documents):
    result = aios("add", documents, "--store", "/proc/aios-store")
    assert result.exit_code == 1
    assert "/proc/aios-store" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("change", ["binary", "pipe", "gone", "damaged"])
def test_what_was_read_before_is_kept_and_cited_as_not_readable(
    aios, aios_json, tiny_models, documents, change
):
    path = documents / ("broken.jsonl" if change == "damaged" else "trains.txt")
    path.write_text('{"text": "The night train leaves at ten."}' if change == "damaged" else path.read_text())
    aios("add", path)
    before = path.read_bytes()
    if change == "binary":
        path.write_bytes(b"\0\1\2")
    elif change == "damaged":
        path.write_text("no json at all")
    else:
        path.unlink()
    if change == "pipe":
        os.mkfifo(path)
    report = aios_json("add", documents if change == "gone" else path, code=0 if change == "gone" else 1)
    if change == "gone":
        assert report["vanished"] == [str(path)]
    else:
        assert [(told["outcome"], told["kept"]) for told in report["documents"]] == [("skipped", 1)]
        assert "cited as not readable any more" in aios("add", path).stderr
    (hit,) = (
        hit
        for hit in aios_json("recall", "The night train leaves at ten.", "-k", "9")["hits"]
        if hit["source"] == str(path)
    )
    assert hit["unreadable_since"].startswith("20")
    said = aios("recall", "The night train leaves at ten.", "-k", "1").stdout
    assert "(not readable since 20" in said
    # Nothing more happens to it while that is so; read again, it is as it was.
    again = aios_json("add", documents if change == "gone" else path, code=0 if change == "gone" else 1)
    assert again["passages"]["updated"] == 0
    path.unlink(missing_ok=True)
    path.write_bytes(before)
    report = aios_json("add", path)
    assert report["passages"] == {"added": 0, "updated": 1, "removed": 0, "merged": 0}
    assert "not readable" not in aios("recall", "The night train leaves at ten.", "-k", "1").stdout
    assert aios_json("add", path)["files"]["unchanged"] == 1


def test_documents_below_a_folder_that_cannot_be_looked_into_are_marked(
    aios_json, tiny_models, documents, close_folder
):
    (documents / "inner").mkdir()
    (documents / "inner" / "kept.txt").write_text("The attic is dry.")
    aios_json("add", documents)
    close_folder(documents / "inner")
    report = aios_json("add", documents)
    kept = {told["path"]: told["kept"] for told in report["documents"] if told["kept"]}
    assert kept == {str(documents / "inner"): 1}
    marked = [
        memory["metadata"]["source"]
        for memory in aios_json("memory", "list")
        if memory["metadata"].get("unreadable_since")
    ]
    assert marked == [str(documents / "inner" / "kept.txt")]


@pytest.mark.parametrize("names", [["picture.png"], ["picture.png", "broken.jsonl"], [".hidden"]])
def test_it_fails_when_all_that_was_named_was_skipped(aios, aios_json, tiny_models, documents, names):
    folder = documents.parent / "bad"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes((documents / name).read_bytes())
    report = aios_json("add", folder, code=1)
    assert (report["files"]["added"], len(report["skipped"] + report["ignored"])) == (0, len(names))
    result = aios("add", folder)
    assert result.exit_code == 1
    assert "nothing was taken" in result.stderr
    (folder / "good.txt").write_text("Good.")
    assert aios("add", folder).exit_code == 0
    assert aios("add", folder).exit_code == 0


def test_what_git_ignores_is_passed_by_and_named(aios, aios_json, tiny_models, tmp_path):
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n!kept.log\n")
    (tmp_path / "build").mkdir()
    for name in ("a.md", "a.log", "kept.log", "build/b.md", "build/.gitignore"):
        (tmp_path / name).write_text(f"The {name} is here.")
    report = aios_json("add", tmp_path)
    assert [Path(told["path"]).name for told in report["documents"]] == ["a.md", "kept.log"]
    assert {Path(item["path"]).name: item["reason"] for item in report["ignored"]} == {
        ".gitignore": "hidden",
        "a.log": f"ignored by {tmp_path}/.gitignore:1: *.log",
        "build": f"ignored by {tmp_path}/.gitignore:2: build/",
    }
    assert aios_json("add", tmp_path / "build" / "b.md")["files"]["added"] == 1
    report = aios_json("add", tmp_path, "--all")
    assert (report["files"]["added"], report["ignored"]) == (3, [])


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_words_of_the_question_stand_out(aios, tiny_models, command, tmp_path, no_color):
    (tmp_path / "roses.md").write_text("# Roses\n\nThe rose is cut in February, when the frost is over.\n")
    aios("add", tmp_path / "roses.md")
    asked = [*command, "recall", "when is a ROSE cut?", "--min-similarity", "-1"]
    sent = on_terminal(asked, tmp_path, {**os.environ, "NO_COLOR": no_color}, columns=30).decode()
    strong = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", sent)
    assert strong == ([] if no_color else ["roses.md:3", "rose", "cut", "when"])
    plain = re.sub(r"\x1b\[\d*m", "", sent).replace("\r", "").split("\n")
    assert plain[1:] == ["    The rose is cut in", "    February, when the frost", "    is over.", ""]


def test_recall_shows_the_lines_that_match_of_a_long_passage(aios, tiny_models, tmp_path):
    lines = [f"{number} apples" for number in range(40)]
    lines[30] = "30 turtles"
    with ArrowStorage(tmp_path / "store") as storage:
        storage.save("long", "\n".join(lines), np.eye(1, 32, dtype=np.float32)[0])
    asked = ("recall", "which turtles are there?", "--min-similarity", "-1")
    shown = aios(*asked).stdout
    assert "    30 turtles\n" in shown
    assert re.search(r"\n  … \d+ more lines\n", shown)
    assert shown.count("\n") < 20
    assert all(f"    {line}\n" in aios(*asked, "--full").stdout for line in lines)


@pytest.mark.parametrize("reads", [True, False])
def test_recall_shows_the_line_that_answers_of_a_long_passage(
    aios, tiny_models, tiny_encoder_dir, tmp_path, monkeypatch, reads
):
    card = reader_card(tiny_encoder_dir, tmp_path / "reader.parquet").path if reads else "none"
    monkeypatch.setenv("AIOS_MODEL_READER", str(card))
    # Each is as near to the question as the others, by its words.
    letters = "abcdefghijklmnopqrstuvwxyz"
    texts = [
        "\n\n".join(f"{letter * 3} rose" for letter in letters[first:] + letters[:first])
        for first in range(4)
    ]
    with ArrowStorage(tmp_path / "store") as storage:
        for number, text in enumerate(texts):
            storage.save(f"m{number}", text, np.eye(1, 32, dtype=np.float32)[0])
    question = "which rose is it?"
    with open_runtime(load_config()) as runtime:
        hits = runtime.recall(question, min_similarity=-1).hits
        places = Answering(runtime).places(question, hits)
    assert len(hits) == 4
    said = aios("recall", question, "--min-similarity", "-1", "--all").stdout
    assert said.count("more lines") >= 4
    blocks = re.split(r"^-?[\d.]+  m\d.*$", said, flags=re.MULTILINE)[1:]
    for hit, place, block in zip(hits, places, blocks, strict=True):
        start = hit.text.rfind("\n", 0, place[0]) + 1
        answering = hit.text[start : place[1]].split("\n")
        assert all(f"    {line}" in block for line in answering if line)


def test_add_tells_what_became_of_each_file(aios, tiny_models, documents):
    told = aios("add", documents).stderr
    for line in ("added ", "holds no text: ", "skipped ", "passed by 1 hidden, generated or ignored by git"):
        assert line in told
    assert re.search(r"^added \S+: \d passages?$", told, re.MULTILINE)
    assert aios("add", documents, "--quiet").stderr == ""
