import json

import pytest


def test_ask_quotes_the_passages_where_the_model_writes_nonsense(aios_json, tiny_models, documents):
    aios_json("add", documents)
    answer = aios_json("ask", "When does the night train leave?", "--max-tokens", "8")
    assert not answer["abstained"]
    assert answer["is_quote"]
    assert answer["answer"] == " ".join(citation["quote"] for citation in answer["citations"])
    assert {citation["support"] for citation in answer["citations"]} == {1.0}
    held = " ".join(" ".join(passage["text"].split()) for passage in answer["passages"])
    assert all(citation["quote"] in held for citation in answer["citations"])


def test_ask_says_where_a_quote_stands(aios, tiny_models, documents):
    aios("add", documents)
    result = aios("ask", "When does the night train leave?", "--max-tokens", "8")
    assert result.exit_code == 0
    assert "[1] " in result.stdout
    assert "quoted as it stands there" in result.stdout


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


def test_ask_says_by_which_mode_it_answers(aios, aios_json, tiny_models, documents):
    aios("add", documents)
    question = "When does the night train leave?"
    for mode in ("ar", "diffusion"):
        answer = aios_json("ask", question, "--mode", mode)
        assert answer["mode"] in (mode, "quote")
        assert (answer["mode"] == "quote") == answer["is_quote"]
    assert aios_json("ask", question)["answer"] == aios_json("ask", question, "--mode", "diffusion")["answer"]
    wrong = aios("ask", question, "--mode", "best")
    assert wrong.exit_code == 2
    assert "mode is 'best', expected 'ar' or 'diffusion'" in wrong.stderr


def test_ask_needs_no_diffusion_unless_told(aios, tiny_models, documents, monkeypatch):
    aios("add", documents)
    monkeypatch.setenv("AIOS_MODEL_DIFFUSION", "smollm2-diffusion")
    assert aios("ask", "When does the night train leave?", "--max-tokens", "8").exit_code == 0
    told = aios("ask", "When does the night train leave?", "--mode", "diffusion")
    assert told.exit_code == 3
    assert "aios pull smollm2-diffusion" in told.stderr or "smollm2-diffusion" in told.stderr
