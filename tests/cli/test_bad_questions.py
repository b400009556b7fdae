"""Questions and stores that cannot be answered from: what is wrong is said, and the store stays as it is.

Every way of asking is tried: `recall`, `ask`, `chat` of a pipe and of Python, in text and in JSON.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.config import load_config
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.runtime import open_runtime
from ai_os_diffusion.runtime.conversation import Reply
from ai_os_diffusion.utils.errors import DiffusionError
from support.manifest_line import manifest_line
from support.reader_cards import reader_card

GOOD = "When does the night train leave?"
WAYS = ("recall", "ask", "chat")
# What is asked, the exit code, and what is said. The tiny encoder takes 128 tokens, each a letter.
QUESTIONS = {
    "empty": ("", 2, "the question is empty; expected some words"),
    "white space": (" \t ", 2, "the question is empty; expected some words"),
    "marks": ("?! ... –", 2, "holds no word: '?! ... –'; expected some words"),
    "no glyphs": ("\u200b\u2060", 2, "holds no word"),
    "an escape sequence": ("\x1b[31m", 2, r"holds no word: '\\x1b[31m'; expected some words"),
    "10,000 words": ("trains leave " * 5000, 2, "tokens, expected no more than the 128 that the encoder"),
    "one long word": ("x" * 100_000, 0, ""),
    "stop words": ("the of and is it", 0, ""),
    "half written": ('when does the "night (train', 0, ""),
    "controls among words": ("\x1b[1mWhen\x1b[0m does\x07 the train \x1b]0;title\x07leave?", 0, ""),
    "another order": ("\u202eWhen does the train leave?\u202c", 0, ""),
    "a script that the encoder lacks": ("когда уходит поезд?", 0, ""),
    "pictures": ("🚂", 0, ""),
}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def remembered(tmp_path_factory, tiny_encoder_dir):
    """A store that is copied for each test."""
    folder = tmp_path_factory.mktemp("remembered") / "store"
    settings = {"storage.path": folder, "model.encoder": str(tiny_encoder_dir)}
    texts = [("trains.txt", b"The night train leaves at ten.\n"), ("roses.md", b"# Roses\n\nCut in March.\n")]
    with open_runtime(load_config(overrides=settings)) as runtime:
        runtime.add(texts=texts)
    return folder


@pytest.fixture
def store(tiny_models, remembered, tmp_path):
    """A store with memories, which no question changes."""
    shutil.copytree(remembered, tmp_path / "store")
    before = digests(tmp_path / "store")
    yield tmp_path / "store"
    assert digests(tmp_path / "store") == before


@pytest.fixture
def say(aios):
    """Ask in one of `WAYS`: the exit code, and what was said on either stream."""

    def ask(way, question, *options):
        # A line of a pipe ends at its break; an argument holds no NUL.
        if way == "chat":
            result = aios(way, *options, input=question.replace("\n", " ") + "\n")
        else:
            result = aios(way, *options, "--", question)
        return result.exit_code, result.stdout + result.stderr

    return ask


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_question_is_answered_or_what_is_wrong_with_it_is_said(say, store, kind, way):
    question, code, message = QUESTIONS[kind]
    if way == "chat" and not question.strip():
        code, message = 0, ""  # Nobody said anything.
    got, said = say(way, question)
    assert got == code, said
    assert message in said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert "\x07" not in said
    assert len(said.replace(question, "")) < 5000


@pytest.mark.parametrize("kind", QUESTIONS)
def test_python_raises_what_the_command_line_says(store, kind):
    question, code, message = QUESTIONS[kind]
    with open_runtime(load_config()) as runtime:
        conversation = runtime.chat()

        def reply(text):
            return [event for event in conversation.reply(text) if isinstance(event, Reply)][-1]

        for ask in (runtime.recall, runtime.ask, reply):
            if code:
                with pytest.raises(DiffusionError) as caught:
                    ask(question)
                assert isinstance(caught.value, ValueError)
                assert message.replace("\\\\", "\\") in str(caught.value).replace("\\\\", "\\")
            else:
                assert not getattr(ask(question), "abstained", False)


@pytest.mark.parametrize("given", [None, 12, b"trains", ["trains"]], ids=str)
def test_a_question_that_is_no_text_is_refused_by_its_type(store, given):
    with open_runtime(load_config()) as runtime:
        for ask in (runtime.recall, runtime.ask, lambda given: list(runtime.chat().reply(given))):
            with pytest.raises(DiffusionError, match=f"of type {type(given).__name__}, expected a str"):
                ask(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", 0), ("top_k", -1), ("top_k", "3"), ("top_k", True), ("min_similarity", float("nan")),
     ("min_similarity", "0.5")],
)  # fmt: skip
def test_a_number_that_no_search_has_is_refused_by_its_name(store, name, value):
    with open_runtime(load_config()) as runtime:
        for ask in (runtime.recall, runtime.ask):
            with pytest.raises(DiffusionError, match=f"{name} is {value!r}, expected"):
                ask(GOOD, **{name: value})


def test_half_a_character_is_no_text(store):
    with open_runtime(load_config()) as runtime:
        for ask in (runtime.recall, runtime.ask):
            with pytest.raises(DiffusionError, match="lone surrogate at character 3"):
                ask("the\ud800 train")


def test_words_that_the_encoder_lacks_are_told_of_where_nothing_is_near(
    aios, aios_json, say, home, minilm_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIOS_MODEL_ENCODER", str(minilm_dir))
    (tmp_path / "trains.txt").write_text("The night train leaves at ten.")
    aios("add", tmp_path / "trains.txt")
    asked = {
        "когда уходит поезд?": ["когда", "уходит", "поезд"],
        "何時に?": ["何時に"],
        "When does the поезд leave?": ["поезд"],
        "Wann fährt der Nachtzug?": [],
        "x = 3 + (4)": [],
    }
    for question, words in asked.items():
        named = ", ".join(f"“{word}”" for word in words)
        for way in ("recall", "ask"):
            code, said = say(way, question, "--min-similarity", "0.9999")
            assert code == 6
            assert (f"; the encoder knows {named} by single letters alone" in said) == bool(words), said
            assert aios_json(way, question, "--min-similarity", "0.9999", code=6)["foreign_words"] == words


def test_of_many_unknown_names_a_few_are_named(say, store):
    code, said = say("ask", " ".join(f"a{number}" for number in range(30)), "--min-similarity", "0.9999")
    assert code == 6
    assert "and none speaks of “a0”, “a1”, “a2”, “a3”, “a4” and 25 more" in said


def _without_index(store):
    for file in store.glob("*.fts"):
        file.unlink()


def _cut_index(store):
    for file in store.glob("*.fts"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _overwritten_index(store):
    for file in store.glob("*.fts"):
        file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))


def _index_of_another_version(store):
    for file in store.glob("*.fts"):
        data = bytearray(file.read_bytes())
        data[8] += 1
        file.write_bytes(bytes(data))


def _without_vectors(store):
    for file in store.glob("*.vec"):
        file.unlink()


@pytest.fixture
def changed(store, tmp_path, monkeypatch):
    """Change a copy of the store: `changed(function)`; it is asked from then on, and not written to."""
    before = {}

    def change(how):
        copy = tmp_path / "changed"
        shutil.copytree(store, copy)
        how(copy)
        before.update(digests(copy))
        monkeypatch.setenv("AIOS_STORAGE_PATH", str(copy))

    yield change
    assert before
    assert digests(tmp_path / "changed") == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "how",
    [_without_index, _cut_index, _overwritten_index, _index_of_another_version],
    ids=lambda how: how.__name__,
)
def test_an_index_that_is_not_whole_costs_time_and_no_answer(say, changed, aios_json, how, way):
    changed(how)
    code, said = say(way, GOOD)
    assert code == 0
    assert "aios memory compact keeps one" in said
    if way != "chat":
        assert aios_json(way, GOOD)["index"] == "degraded"
        assert "memory compact" not in say(way, GOOD, "--quiet")[1]


@pytest.mark.parametrize("way", WAYS)
def test_vectors_are_read_from_the_table_where_their_file_is_gone(say, changed, way):
    changed(_without_vectors)
    assert say(way, GOOD)[0] == 0


def _newer(store):
    # As a later release would write it: the checksum holds (docs/formats/store.md).
    (line, *_) = (store / "MANIFEST").read_text().splitlines()
    _, _, _, body = line.split(" ", 3)
    (store / "MANIFEST").write_text(manifest_line(99, body) * 2)


def _torn(store):
    data = (store / "MANIFEST").read_bytes()
    (store / "MANIFEST").write_bytes(data[: len(data) // 3])


def _without_table(store):
    next(store.glob("seg-*.parquet")).unlink()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("how", "code", "message"),
    [(_newer, 1, "version 99"), (_torn, 5, "is damaged"), (_without_table, 5, "the file is gone")],
    ids=["of a later release", "torn manifest", "missing table"],
)
def test_a_store_that_cannot_be_read_is_named(say, changed, how, code, message, way):
    changed(how)
    got, said = say(way, GOOD)
    assert (got, message in said, "changed" in said) == (code, True, True), said


@pytest.mark.parametrize("way", WAYS)
def test_a_store_of_another_encoder_is_named_before_anything_is_asked(
    say, store, another_encoder, monkeypatch, way
):
    monkeypatch.setenv("AIOS_MODEL_ENCODER", str(another_encoder))
    code, said = say(way, GOOD)
    assert code == 2, said
    assert "embedded by " in said
    assert "set model.encoder to the first" in said
    if way == "chat":
        assert say(way, "") == (2, said)


@pytest.fixture
def another_encoder(tiny_encoder_dir, tmp_path):
    """The tiny encoder, as if it came from other weights."""
    folder = tmp_path / "another"
    shutil.copytree(tiny_encoder_dir, folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["source"] |= {"name": "another", "weights_sha256": "5" * 64}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize("way", ["ask", "chat"])
def test_a_card_that_does_not_read_here_is_named_before_anything_is_asked(
    say, store, another_encoder, tiny_decoder_dir, tmp_path, way
):
    cases = [
        (reader_card(another_encoder, tmp_path / "foreign.parquet").path, 1, "is of the base 'tiny'"),
        (_skill(tiny_decoder_dir, tmp_path), 1, "is a card of kind 'skill', expected one of kind 'reader'"),
        (tmp_path / "missing.parquet", 3, "not found; expected the file of a card"),
        (tmp_path, 3, "is a folder or device; expected the file of a card"),
        (store / "MANIFEST", 5, "not a Parquet file"),
        (next(store.glob("seg-*.parquet")), 5, ""),
    ]
    for path, code, message in cases:
        got, said = say(way, GOOD, "--reader", path)
        assert (got, message in said) == (code, True), said


def _skill(base: Path, folder: Path) -> Path:
    about = CardDescription("skill", "skill", Base.of_folder(base), 0, 1.0)
    norm = np.ones(32, np.float32)
    return Card.write(folder / "skill.parquet", about, [("model.norm.weight", norm)]).path


def test_programs_get_what_is_wrong_as_json_and_chat_takes_the_next_message(aios, aios_json, store):
    for way in ("recall", "ask"):
        error = aios_json(way, "?!", code=2, error=True)
        assert (error["type"], error["exit_code"]) == ("QuestionError", 2)
    result = aios("chat", "--json", input=f"?!\n{GOOD}\n")
    wrong, right = map(json.loads, result.stdout.splitlines())
    assert (wrong["question"], wrong["error"]["type"], result.exit_code) == ("?!", "QuestionError", 2)
    assert right["answer"]
