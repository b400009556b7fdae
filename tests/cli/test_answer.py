def test_ask_answers_with_passages_and_honest_citations(aios_json, tiny_models, documents):
    aios_json("add", documents)
    answer = aios_json("ask", "When does the night train leave?", "--max-tokens", "8")
    assert not answer["abstained"]
    assert answer["passages"]
    assert answer["citations"] == [] or answer["confidence"] > 0


def test_ask_says_when_nothing_supports_the_answer(aios, tiny_models, documents):
    aios("add", documents)
    result = aios("ask", "When does the night train leave?", "--max-tokens", "8")
    assert result.exit_code == 0
    assert "take it as a guess" in result.stdout


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
