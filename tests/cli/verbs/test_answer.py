import json

import pytest

from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.utils.statistics.calibration import Calibration
from support.reader_cards import reader_card

QUESTION = "When does the night train leave?"


@pytest.fixture
def reader(tiny_encoder_dir, tmp_path):
    """A reader card whose answers are believed, or with `reader(-5.0)` not."""

    def make(odds=5.0):
        config = Judge(Calibration(odds), 0.5).to_config()
        return reader_card(tiny_encoder_dir, tmp_path / f"reader{odds}.parquet", config=config).path

    return make


def test_ask_points_at_the_answer_and_loads_no_decoder(
    aios, aios_json, tiny_models, documents, reader, monkeypatch
):
    monkeypatch.setenv("AIOS_MODEL_DECODER", "not-there")
    aios("add", documents)
    answer = aios_json("ask", QUESTION, "--reader", reader())
    assert (answer["mode"], answer["abstained"], answer["is_quote"]) == ("reader", False, True)
    assert answer["confidence"] == answer["answers"][0]["confidence"] == pytest.approx(0.9933)
    texts = {hit["memory_id"]: hit["text"] for hit in answer["passages"]}
    for told in answer["answers"]:
        for citation in told["citations"]:
            quote = citation["quote"]
            assert quote in texts[citation["memory_id"]]
            assert citation["line"] <= citation["end_line"]
        first = told["citations"][0]
        assert " ".join(first["quote"][first["start"] : first["end"]].split()) == told["text"]


def test_ask_shows_the_answer_then_where_it_stands(aios, aios_json, tiny_models, documents, reader):
    aios("add", documents)
    card = reader()
    told = aios_json("ask", QUESTION, "--reader", card)
    result = aios("ask", QUESTION, "--reader", card)
    lines = result.stdout.splitlines()
    assert lines[:2] == [told["answer"], ""]
    assert lines[2].startswith("[1] ")
    assert lines[-1] == "pointed at in the passages, right with probability 0.99"
    assert result.stdout.count("\nor: ") == len(told["answers"]) - 1


def test_ask_abstains_where_the_reader_does_not_believe_it(aios, aios_json, tiny_models, documents, reader):
    aios("add", documents)
    card = reader(-5.0)
    answer = aios_json("ask", "Which port does PostgreSQL use?", "--reader", card, code=6)
    assert (answer["answer"], answer["answers"], answer["citations"]) == ("", [], [])
    assert (answer["reason"], answer["unknown_names"]) == ("unknown_names", ["PostgreSQL"])
    assert answer["confidence"] == pytest.approx(0.0067)
    result = aios("ask", "Which port does PostgreSQL use?", "--reader", card)
    assert (result.exit_code, result.stdout) == (6, "")
    assert "do not speak of “PostgreSQL”" in result.stderr
    assert "do not answer this" in aios("ask", QUESTION, "--reader", card).stderr


def test_the_reader_is_that_of_the_settings_or_none(
    aios, aios_json, tiny_models, documents, reader, monkeypatch
):
    aios("add", documents)
    monkeypatch.setenv("AIOS_MODEL_READER", str(reader()))
    assert aios_json("ask", QUESTION)["mode"] == "reader"
    assert aios_json("ask", QUESTION, "--reader", "none")["mode"] == "nearest"
    missing = aios("ask", QUESTION, "--reader", "missing.parquet")
    assert missing.exit_code == 3
    assert "missing.parquet: not found; expected the file of a card" in missing.stderr


def test_without_a_reader_the_nearest_part_is_quoted(aios, aios_json, tiny_models, documents):
    aios_json("add", documents)
    answer = aios_json("ask", QUESTION)
    assert (answer["mode"], answer["is_quote"], answer["confidence"]) == ("nearest", True, None)
    (citation,) = answer["citations"]
    assert answer["answer"] == " ".join(citation["quote"].split())
    result = aios("ask", QUESTION)
    assert "[1] " in result.stdout
    assert result.stdout.endswith("no reader card is here that could point at an answer\n")


def test_ask_abstains_with_6_and_does_not_load_the_decoder(
    aios, home, monkeypatch, tiny_encoder_dir, documents
):
    monkeypatch.setenv("AIOS_MODEL_ENCODER", str(tiny_encoder_dir))
    aios("add", documents)
    result = aios("ask", "anything", "--min-similarity", "0.9999")
    assert (result.exit_code, result.stdout) == (6, "")


def test_chat_reads_messages_from_a_pipe(aios, tiny_models):
    result = aios("chat", "--no-memory", "--max-tokens", "4", input="Hello\n\nAgain\n")
    assert result.exit_code == 0


def test_chat_answers_from_memory(aios, tiny_models, documents):
    aios("add", documents)
    result = aios("chat", "--max-tokens", "4", input="When does the night train leave?\n")
    assert result.exit_code == 0
    assert "garden.md" in result.stdout or "trains.txt" in result.stdout or "tool.py" in result.stdout


def chat(aios, *args, input):
    """Run a conversation; returns its JSON lines and the whole result."""
    result = aios("chat", "--json", "--max-tokens", "4", *args, input=input)
    return [json.loads(line) for line in result.stdout.splitlines()], result


def test_chat_without_a_store_talks_without_memory(aios, tiny_models):
    lines, result = chat(aios, input="Hello\nAgain\n")
    assert result.exit_code == 0
    assert [(line["question"], line["from_memory"]) for line in lines] == [("Hello", False), ("Again", False)]
    assert result.stderr.count("no memory yet") == 1
    assert "no memory yet" not in chat(aios, "--no-memory", input="Hello\n")[1].stderr


@pytest.mark.parametrize("with_store", [True, False])
def test_what_the_model_says_of_itself_is_marked(aios, tiny_models, documents, with_store):
    if with_store:
        aios("add", documents)
    plain = aios("chat", "--no-memory", "--max-tokens", "4", input="Hello\nAgain\n")
    assert plain.stdout.count("[not from your documents] ") == 2
    lines, _ = chat(aios, "--no-memory", input="Hello\nAgain\n")
    assert [line["origin"] for line in lines] == ["not from your documents"] * 2


def test_what_memory_cannot_answer_is_declined(aios, tiny_models, documents, monkeypatch):
    aios("add", documents)
    monkeypatch.setenv("AIOS_RETRIEVAL_MIN_SIMILARITY", "0.9999")
    lines, result = chat(aios, input="anything\nelse\n")
    assert [(line["abstained"], line["answer"], line["from_memory"]) for line in lines] == [
        (True, "", True)
    ] * 2
    assert result.exit_code == 6
    plain = aios("chat", "--max-tokens", "4", input="anything\n")
    assert plain.exit_code == 6
    assert plain.stdout.startswith("nothing in memory fits")
    assert "not from your documents" not in plain.stdout


def test_chat_writes_what_ask_writes_for_answers_from_memory(aios, aios_json, tiny_models, documents):
    aios_json("add", documents)
    question = "When does the night train leave?"
    (line,), _ = chat(aios, input=question)
    asked = aios_json("ask", question, "--max-tokens", "4")
    assert line.pop("from_memory") is True
    assert line.keys() == asked.keys()
    assert line["answer"] == asked["answer"]


def test_chat_goes_on_after_a_message_that_is_too_long(aios, tiny_models):
    # A letter is a token, and the window takes 4096.
    given = f"Hello\n{'x' * 5000}\nAgain\n"
    lines, result = chat(aios, input=given)
    assert ["error" in line for line in lines] == [False, True, False]
    assert "tokens" in lines[1]["error"]["message"]
    assert result.exit_code == lines[1]["error"]["exit_code"] == 1
    plain = aios("chat", "--max-tokens", "4", input=given)
    assert (plain.exit_code, plain.stderr.count("error: ")) == (1, 1)


def test_chat_forgets_old_turns_where_the_window_is_full(aios, tiny_models):
    lines, result = chat(aios, input=f"{'a' * 1800}\n{'b' * 1800}\n{'c' * 1800}\n")
    assert result.exit_code == 0, result.stderr
    assert len(lines) == 3


def test_chat_without_a_decoder_says_so_before_any_message(aios, home):
    result = aios("chat", input="")
    assert result.exit_code == 3
    assert "aios pull smollm2" in result.stderr


def test_chat_from_memory_needs_no_decoder(aios, tiny_models, documents, reader, monkeypatch):
    aios("add", documents)
    monkeypatch.setenv("AIOS_MODEL_DECODER", "not-there")
    lines, result = chat(aios, "--reader", reader(), input=f"{QUESTION}\nAnd who says so?\n")
    assert result.exit_code == 0, result.stderr
    assert [(line["mode"], line["from_memory"]) for line in lines] == [("reader", True)] * 2
    assert all(line["citations"] for line in lines)
    assert [line["question"] for line in lines] == [QUESTION, "And who says so?"]
    assert lines[0]["answer"] != lines[1]["answer"]


@pytest.mark.parametrize("verb", ["recall", "ask", "chat", "embed"])
def test_what_comes_through_a_pipe_is_decoded_as_files_are(aios, tiny_models, documents, verb):
    aios("add", documents)
    args = [verb, "--json"] if verb == "chat" else [verb, "-", "--json"]
    result = aios(*args, input="Öl im Café?\r\n".encode("cp1252"))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0] if verb in ("chat", "embed") else result.stdout)
    assert "Öl im Café?" in result.stdout
    binary = aios(*args, input=b"\0\1\2\n")
    assert binary.exit_code == 1
    assert "not text" in (binary.stdout if verb == "chat" else binary.stderr)


def test_arguments_are_decoded_as_files_are(aios, tiny_models, documents):
    aios("add", documents)
    latin = "caf\udce9"
    for args in (("recall", latin), ("ask", latin), ("embed", latin), ("similarity", "x", latin)):
        result = aios(*args, "--json")
        assert result.exit_code == 0, result.stderr
        assert "café" in result.stdout


def test_a_model_answers_where_it_is_asked_to_and_is_held_to_the_passages(
    aios, aios_json, tiny_models, documents
):
    aios("add", documents)
    for mode in ("ar", "diffusion"):
        answer = aios_json("ask", QUESTION, "--mode", mode, "--max-tokens", "8")
        # What models of random weights write stands nowhere.
        assert (answer["mode"], answer["is_quote"]) == ("nearest", True)
    wrong = aios("ask", QUESTION, "--mode", "best")
    assert wrong.exit_code == 2
    assert "mode is 'best', expected 'ar' or 'diffusion'" in wrong.stderr


@pytest.mark.parametrize(("mode", "setting"), [("ar", "DECODER"), ("diffusion", "DIFFUSION")])
def test_ask_needs_a_model_only_when_told(aios, tiny_models, documents, monkeypatch, mode, setting):
    aios("add", documents)
    monkeypatch.setenv(f"AIOS_MODEL_{setting}", "not-there")
    assert aios("ask", QUESTION).exit_code == 0
    told = aios("ask", QUESTION, "--mode", mode)
    assert told.exit_code == 3
    assert "not-there" in told.stderr
