"""What newcomers, unset variables and generated command lines give ends in a message and a code."""

import json

import pytest

from ai_os_diffusion.cli.lazy import VERBS

EMPTY = [
    ("add", ""),
    ("add", ".", ""),
    ("pull", ""),
    ("rm", "", "--yes"),
    ("inspect", ""),
    ("convert", "", "out"),
    ("convert", "in", "", "--force"),
    ("quantize", "", "out"),
    ("quantize", "in", "", "--force"),
    ("embed", "--file", ""),
    ("embed", "x", "--out", ""),
    ("embed", "x", "--model", ""),
    ("recall", ""),
    ("recall", "", " "),
    ("recall", "x", "--source", ""),
    ("ask", "x", "--source", ""),
    ("ask", ""),
    ("memory", "list", "--source", ""),
    ("memory", "show", ""),
    ("memory", "forget", "", "--yes"),
    ("memory", "forget", "--source", "", "--yes"),
    ("memory", "export", ""),
    ("memory", "import", ""),
    ("memory", "stats", "--store", ""),
    ("models", "--models-dir", ""),
    ("models", "--config", ""),
]
DEEP = 8000
OUT_OF_RANGE = [
    ("recall", "x", "--min-similarity", "nan"),
    ("ask", "x", "--min-similarity", "nan"),
    ("bench", "--seconds", "nan"),
    ("bench", "--seconds", "inf"),
    ("chat", "--temperature", "nan"),
    ("memory", "list", "--limit", "9" * 30),
    ("recall", "x", "-k", "9" * 5000),
    ("recall", "x", "--filter", '{"a": NaN}'),
    ("recall", "x", "--filter", '{"a": 1e999}'),
    ("recall", "x", "--filter", '{"$and":[' * DEEP),
    ("recall", "x", "--filter", '{"a":' * DEEP + "1" + "}" * DEEP),
]


@pytest.mark.parametrize("args", EMPTY, ids=" ".join)
def test_an_empty_name_is_no_folder(aios, tiny_models, args):
    (tiny_models / "notes.md").write_text("Roses are cut in March.")
    result = aios(*args)
    assert result.exit_code == 2
    assert "empty" in result.stderr or "expected" in result.stderr
    assert [path.name for path in tiny_models.iterdir()] == ["notes.md"]


@pytest.mark.parametrize("args", OUT_OF_RANGE, ids=lambda args: " ".join(args)[:40])
def test_what_is_no_value_of_an_option_is_wrong_usage(aios_json, tiny_models, documents, args):
    aios_json("add", documents)
    assert aios_json(*args, code=2, error=True)["type"] in ("UsageError", "SamplingError", "FilterError")


def test_numbers_that_json_lacks_are_texts_in_a_filter(aios_json, tiny_models, tmp_path):
    (tmp_path / "n.jsonl").write_text(json.dumps({"text": "Roses", "is": "NaN"}))
    aios_json("add", tmp_path / "n.jsonl")
    for value in ("NaN", "Infinity", "1e999", "[" * DEEP):
        assert aios_json("memory", "list", "--filter", f"kind={value}") == []


@pytest.mark.parametrize(
    "args",
    [
        ("memory", "show"),
        ("memory", "forget"),
        ("rm",),
        ("recall", "x", "--source"),
        ("add",),
        ("inspect",),
        ("embed", "x", "--model"),
        ("memory", "import"),
        ("models", "--config"),
        ("memory", "stats", "--store"),
    ],
    ids=" ".join,
)
def test_a_name_too_long_for_any_file_is_an_error(aios, tiny_models, documents, args):
    aios("add", documents)
    suffix = ".jsonl" if "import" in args else ""
    result = aios(*args, "x" * 100_000 + suffix)
    assert result.exit_code in (1, 2, 3, 6)
    assert len(result.stderr) < 350_000


def test_without_a_verb_there_is_help(aios):
    for args in ((), ("memory",)):
        result = aios(*args)
        assert result.exit_code == 2
        assert result.output.startswith("Usage: ")
        assert "Error" not in result.output
    assert all(f"  {verb}" in aios().output for verb in VERBS)
