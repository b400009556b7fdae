"""`aios generate` writes as it is told, or fails and says why."""

import json


def test_it_writes_and_tells_how(aios, tiny_models):
    result = aios("generate", "Once", "upon", "--max-tokens", "6", "--seed", "3", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["attempts"] == 1
    assert found["seed"] == 3
    assert found["value"] is None
    assert found["completion_tokens"] <= 6
    assert aios("generate", "Once", "--max-tokens", "6").stderr == ""


def test_phrases_patterns_and_schemas_are_held_to(aios, tiny_models, tmp_path):
    for options in (["--required", "zebra"], ["--matches", "[a-m]{3,9}", "--banned", "b"]):
        result = aios("generate", "Once", "--max-tokens", "16", "--temperature", "1", "--seed", "1", *options)
        assert result.exit_code == 0, result.output
        assert "as told in" in result.stderr
    form = tmp_path / "form.json"
    form.write_text('{"name": "string", "age": "integer"}')
    result = aios("generate", "Once", "--schema", form, "--max-tokens", "60", "--json")
    assert result.exit_code == 0, result.output
    assert [type(own) for own in json.loads(result.stdout)["value"].values()] == [str, int]


def test_what_cannot_be_is_said(aios, tiny_models, tmp_path):
    result = aios("generate", "Once", "--required", "a phrase without room", "--max-tokens", "2", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["type"] == "ConstraintError"
    for options in (
        ["--banned", "a", "--required", "a"],
        ["--matches", "("],
        ["--schema", tmp_path / "none"],
    ):
        assert aios("generate", "Once", *options).exit_code in (2, 3)


def test_diffuse_is_held_to_phrases_too(aios, tiny_models):
    result = aios(
        "diffuse", "Once", "--required", "z", "--banned", "q", "--max-tokens", "8", "--json", "--seed", "1"
    )
    assert result.exit_code == 0, result.output
    assert "z" in json.loads(result.stdout)["text"].casefold()
