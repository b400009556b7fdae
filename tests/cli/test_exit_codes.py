"""An exit code names the cause, as the table in docs/guides/cli.md has it."""

import errno
import io
import json
import os
import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture
def model(tmp_path, tiny_encoder_dir):
    """A model folder that a test may damage."""
    folder = tmp_path / "own-encoder"
    shutil.copytree(tiny_encoder_dir, folder)
    return folder


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\xe9"])
def test_damaged_metadata_is_5(aios, home, model, content):
    (model / "metadata.json").write_text(content, encoding="latin-1")
    result = aios("embed", "x", "--model", model)
    assert result.exit_code == 5
    assert "metadata.json" in result.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}'])
def test_a_damaged_tokenizer_is_5(aios, home, model, content):
    (model / "tokenizer.json").write_text(content)
    result = aios("embed", "x", "--model", model)
    assert result.exit_code == 5
    assert "tokenizer.json" in result.stderr


def test_a_damaged_source_of_a_conversion_is_5(aios, home, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_text("{")
    assert aios("convert", tmp_path / "source", tmp_path / "out").exit_code == 5


def test_a_format_of_a_later_release_is_1(aios, home, model):
    change(model / "metadata.json", format_version=99)
    result = aios("embed", "x", "--model", model)
    assert result.exit_code == 1
    assert "update ai-os-diffusion" in result.stderr


def test_an_output_that_exists_is_1(aios, home, tiny_encoder_dir, model):
    result = aios("convert", tiny_encoder_dir, model)
    assert result.exit_code == 1
    assert "--force" in result.stderr


def test_a_storage_type_that_does_not_exist_is_2(aios_json, home, tiny_encoder_dir):
    error = aios_json("pull", tiny_encoder_dir, "--quantize", "int3", code=2, error=True)
    assert "int8, int4, int2" in error["message"]


def test_sampling_out_of_range_is_2(aios, tiny_models):
    assert aios("chat", "--no-memory", "--seed", "-1", input="Hello\n").exit_code == 2


@pytest.mark.parametrize(
    "filter",
    [
        '{"a": {"$regex": "x"}}',
        '{"$xor": []}',
        '{"a": {"$in": 3}}',
        '{"$and": 3}',
        '{"a": {"$exists": "yes"}}',
        '{"a": {"$gt": 1, "b": 2}}',
    ],
)
@pytest.mark.parametrize(
    "verb", [("recall", "x"), ("ask", "x"), ("memory", "list"), ("memory", "forget", "-y")]
)
def test_a_filter_that_cannot_be_understood_is_2(aios, aios_json, tiny_models, documents, verb, filter):
    aios_json("add", documents)
    result = aios(*verb, "--filter", filter)
    assert result.exit_code == 2, result.stderr
    assert "filter" in result.stderr


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl"])
@pytest.mark.parametrize("verb", [("memory", "export"), ("embed", "text", "--out")])
def test_a_folder_to_write_in_that_is_not_there_is_3(aios, aios_json, tiny_models, documents, verb, name):
    pytest.importorskip("pyarrow")
    aios_json("add", documents)
    result = aios(*verb, f"nofolder/{name}")
    assert result.exit_code == 3, result.stderr
    assert "nofolder" in result.stderr


def test_a_full_disk_is_1(aios, home, tmp_path, tiny_encoder_dir, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("ai_os_diffusion.models.convert.convert_model", full)
        result = aios("pull", tiny_encoder_dir, "--quantize", "int8")
    assert result.exit_code == 1
    assert "make room" in result.stderr
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert aios("pull", "minilm", "--offline").exit_code == 1


def test_a_models_folder_that_cannot_be_made_or_written_is_1(aios, home, tiny_encoder_dir, monkeypatch):
    result = aios("pull", tiny_encoder_dir, "--models-dir", "/proc/models")
    assert result.exit_code == 1
    assert "AIOS_MODELS_DIR" in result.stderr
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert aios("pull", tiny_encoder_dir).exit_code == 1


def test_an_error_names_what_was_asked_for_and_no_draft(aios, home, tiny_encoder_dir, monkeypatch):
    assert aios("convert", tiny_encoder_dir, "/proc/out").stderr.startswith("error: /proc/out: ")

    def full(file, mode="r", *args, real=io.open, **options):
        if "metadata.json" in str(file) and "w" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        return real(file, mode, *args, **options)

    monkeypatch.setattr(io, "open", full)
    result = aios("convert", tiny_encoder_dir, home / "out")
    assert result.stderr == f"error: {home / 'out' / 'metadata.json'}: {os.strerror(errno.ENOSPC)}\n"
    assert "/.aios" not in aios("pull", tiny_encoder_dir, "--quantize", "int8").stderr


def test_what_is_not_there_is_3(aios, home, model, tmp_path):
    (model / "metadata.json").unlink()
    for args in (
        ("embed", "x", "--model", model),
        ("embed", "x", "--model", "nobody"),
        ("embed", "x", "--model", "minilm"),
        ("inspect", tmp_path / "nowhere"),
        ("convert", tmp_path / "nowhere", tmp_path / "out"),
        ("convert", model.parent, tmp_path / "out"),
        ("memory", "stats"),
    ):
        assert aios(*args).exit_code == 3, args
