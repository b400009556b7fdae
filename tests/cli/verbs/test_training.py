"""`aios train-diffusion`: a recipe in, a card out; what is wrong is said by name."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from ai_os_diffusion.cli.lazy import hoist

RECIPE = """
base = "{base}"
[data]
files = ["rows.jsonl"]
[batch]
rows = 1
length = 96
[card]
rank = 4
mask = 258
null = 257
[optimizer]
steps = {steps}
[report]
log_every = 1
"""


@pytest.fixture
def recipe(tiny_decoder_dir, tmp_path, monkeypatch):
    """Writes a recipe of so many steps, and its data, into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(steps=2, rows='{"prompt": "q", "answer": "a"}\n'):
        (tmp_path / "rows.jsonl").write_text(rows)
        file = tmp_path / "own.toml"
        file.write_text(RECIPE.format(base=tiny_decoder_dir, steps=steps))
        return file

    return write


def test_behind_the_verb_the_recipe_is_meant_and_before_it_the_settings():
    words = ["train-diffusion", "--config", "r.toml", "--store", "s"]
    assert hoist(words) == ["--store", "s", "train-diffusion", "--config", "r.toml"]
    words = ["--config", "aios.yaml", "train-diffusion", "--config=r.toml"]
    assert hoist(words) == ["--config", "aios.yaml", "train-diffusion", "--config=r.toml"]
    assert hoist(["recall", "--config", "train-diffusion"]) == ["--config", "train-diffusion", "recall"]


def test_what_is_wrong_with_a_recipe_is_said(aios, aios_json, recipe, tmp_path):
    result = aios("train-diffusion", "--config", tmp_path / "none.toml")
    assert (result.exit_code, "not found; expected a recipe" in result.stderr) == (2, True)
    assert aios("train-diffusion").exit_code == 2
    file = recipe()
    result = aios("train-diffusion", "--config", file, "--set", "card.rang=4")
    assert (result.exit_code, "did you mean 'rank'?" in result.stderr) == (2, True)
    error = aios_json("train-diffusion", "--config", file, "--set", "optimizer.steps=-1", code=2, error=True)
    assert "steps is -1, expected a whole number" in error["message"]


def test_a_package_that_is_missing_is_named_with_what_brings_it(aios, recipe, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.training.run._NEEDED", ("json", "no_such_package"))
    result = aios("train-diffusion", "--config", recipe())
    assert result.exit_code == 1
    assert "training needs no_such_package: pip install 'ai-os-diffusion[train]'" in result.stderr


@pytest.mark.torch
def test_rows_and_bases_that_are_none_are_named(aios, recipe):
    pytest.importorskip("torch")
    result = aios("train-diffusion", "--config", recipe(rows='{"text": "a"}\n{"text": 1}\n'))
    assert result.exit_code == 1
    assert "rows.jsonl:2: text is 1, expected a text" in result.stderr
    result = aios("train-diffusion", "--config", recipe(), "--set", 'base="no-such"')
    assert (result.exit_code, "no-such" in result.stderr) == (3, True)


@pytest.mark.torch
def test_a_card_is_trained_and_told_of(aios, recipe, tmp_path):
    pytest.importorskip("torch")
    result = aios("train-diffusion", "--config", recipe(), "--json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert lines[-1]["card"] == str(tmp_path / "own" / "card.parquet")
    assert lines[-1]["size_bytes"] == (tmp_path / "own" / "card.parquet").stat().st_size
    result = aios("inspect", tmp_path / "own" / "card.parquet")
    assert "diffusion" in result.stdout


@pytest.mark.torch
def test_ctrl_c_saves_and_the_same_command_goes_on(command, recipe, tmp_path):
    pytest.importorskip("torch")
    recipe(steps=100000)
    words = [*command, "train-diffusion", "--config", "own.toml", "--json"]
    for _ in range(2):
        # What was read ahead with the first lines is of the same reader: communicate() would not see it.
        with (
            (tmp_path / "errors").open("w+") as errors,
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as run,
        ):
            lines = [run.stdout.readline(), run.stdout.readline()]
            run.send_signal(signal.SIGINT)
            lines += run.stdout.readlines()
            returned = run.wait()
            errors.seek(0)
            told = errors.read()
        assert returned == 130, told
        assert "the same command goes on" in " ".join(told.split())
        step = int(told.partition("saved at step ")[2].split()[0])
    first, *_, last = (json.loads(line)["step"] for line in lines)
    assert step == last > first > 2


def test_questions_of_a_reader_are_packed_and_what_is_wrong_is_said(
    aios, aios_json, tiny_encoder_dir, tmp_path
):
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "passages": [{"text": "a b"}]}\n')
    file = tmp_path / "reader.toml"
    file.write_text(f'base = "{tiny_encoder_dir}"\n[data]\nfiles = ["rows.jsonl"]\n[optimizer]\nsteps = 1\n')
    packed = tmp_path / "packed.npz"
    told = aios_json("train-reader", "--config", file, "--pack", packed)
    assert told == {"packed": str(packed), "questions": 1, "size_bytes": packed.stat().st_size}
    result = aios("train-reader", "--config", file, "--set", "loss.blocks='last'")
    assert (result.exit_code, "blocks" in result.stderr) == (2, True)
    (tmp_path / "rows.jsonl").write_text('{"question": "q"}\n')
    result = aios("train-reader", "--config", file, "--pack", packed)
    assert (result.exit_code, "rows.jsonl:1" in result.stderr) == (1, True)
