"""`aios diffuse` writes texts, gaps and templates, and says what it was given wrong."""

import json

import pytest


def lines(aios, *args):
    """Its JSON lines: the passes, and the result."""
    result = aios("diffuse", "--json", *args)
    assert result.exit_code == 0, result.output
    *steps, found = map(json.loads, result.stdout.splitlines())
    return steps, found


@pytest.fixture
def notes(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("The night train leaves at ten.\n")
    return file


def test_it_tells_every_pass_and_the_result(aios, tiny_models, notes):
    steps, found = lines(aios, "When does it leave?", "--context", notes, "--max-tokens", "12", "--seed", "7")
    assert [step["step"] for step in steps] == list(range(1, found["steps"] + 1))
    written = {place for step in steps for place in step["positions"]}
    assert written <= set(range(12))
    assert len(found["tokens"]) <= len(written)
    assert found["seed"] == 7
    assert found["memories"] == []
    plain = aios("diffuse", "When does it leave?", "-c", notes, "--max-tokens", "12", "--seed", "7")
    assert plain.exit_code == 0
    assert "pass" in plain.stderr
    assert aios("diffuse", "When?", "-c", notes, "--quiet").stderr == ""


def test_an_extractive_answer_stands_in_the_file(aios, tiny_models, notes):
    _, found = lines(aios, "When does it leave?", "--context", notes, "--extractive")
    assert found["text"]
    assert found["text"] in notes.read_text()


def test_steps_and_samplers_are_as_told(aios, tiny_models):
    for sampler in ("low_confidence", "remdm"):
        steps, found = lines(aios, "Tell me", "--steps", "4", "--sampler", sampler, "--temperature", "1")
        assert len(steps) == found["steps"] <= 4


def test_gaps_are_filled(aios, tiny_models):
    _, found = lines(aios, "--infill", "Ann has {} cats and {} dogs.", "--max-fill", "3")
    assert len(found["fills"]) == 2
    assert found["text"].startswith("Ann has ")
    assert found["text"].endswith(" dogs.")


def test_a_template_of_a_file_is_met(aios, tiny_models, tmp_path, notes):
    form = tmp_path / "form.json"
    form.write_text(
        '{"name": "string", "age": "integer", "likes": ["str"], "size": ["small", "large"], '
        '"at": {"ok": "bool"}}'
    )
    _, found = lines(aios, "--template", form, "--context", notes)
    value = json.loads(found["text"])
    assert value == found["value"]
    assert [type(value[name]) for name in ("name", "age", "likes")] == [str, int, list]
    assert value["size"] in ("small", "large")
    assert type(value["at"]["ok"]) is bool
    form.write_text('{"type": "object", "properties": {"age": {"type": "integer"}}}')
    assert type(lines(aios, "--template", form)[1]["value"]["age"]) is int


def test_memory_is_what_it_is_written_from(aios, tiny_models, documents):
    aios("add", documents)
    _, found = lines(aios, "When does the night train leave?", "--memory")
    assert {memory["source"].rpartition("/")[2] for memory in found["memories"]} & {"trains.txt", "garden.md"}
    _, alone = lines(aios, "When does the night train leave?")
    assert found["prompt_tokens"] > alone["prompt_tokens"]
    shown = aios("diffuse", "When does the night train leave?", "--memory")
    assert "from " in shown.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "expected a question or task"),
        (("--memory", "--infill", "a {} b"), 2, "--memory looks for passages by a question"),
        (("Tell", "--steps", "0"), 2, "--steps"),
        (("Tell", "--steps", "99"), 2, "num_steps is 99"),
        (("Tell", "--sampler", "best"), 2, "sampler is 'best', expected one of"),
        (("Tell", "--threshold", "2"), 2, "--threshold"),
        (("Tell", "--extractive"), 2, "extractive holds an answer to spans"),
        (("Tell", "--cache", "all"), 2, "cache is 'all'"),
        (("--infill", "no gap"), 2, "infill is 'no gap'"),
        (("--infill", "a {} b", "--max-tokens", "4"), 2, "max_fill"),
        (("Tell", "--context", "nowhere.txt"), 3, "nowhere.txt"),
        (("--template", "nowhere.json"), 3, "nowhere.json"),
        (("Tell", "--model", "nothing"), 3, "nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(aios, tiny_models, args, code, message):
    result = aios("diffuse", *args)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""


def test_a_template_that_is_none_is_refused(aios, tiny_models, tmp_path):
    form = tmp_path / "form.json"
    for text, message in (
        ("{", "cannot be read as JSON"),
        ("[]", "expected names with their types"),
        ('{"a": "date"}', "'date'"),
    ):
        form.write_text(text)
        result = aios("diffuse", "--template", form)
        assert result.exit_code in (1, 2)
        assert message in result.stderr


def test_a_model_that_does_not_write_by_diffusion_says_so(aios, tiny_models, tiny_decoder_dir):
    result = aios("diffuse", "Tell me", "--model", tiny_decoder_dir)
    assert result.exit_code == 1
    assert "writes by diffusion with one card" in result.stderr
