import json
import os

import numpy as np
import pytest


def test_embed_writes_one_line_a_text(aios, tiny_models):
    result = aios("embed", "hello", "world")
    rows = [np.array(line.split(), dtype=float) for line in result.stdout.splitlines()]
    assert [len(row) for row in rows] == [32, 32]
    assert np.allclose([np.linalg.norm(row) for row in rows], 1, atol=1e-4)


def test_embed_reads_lines_from_a_pipe_and_a_file(aios, tiny_models, tmp_path):
    piped = aios("embed", "-", input="hello\n\nworld\r\n").stdout
    assert piped == aios("embed", "hello", "world").stdout
    (tmp_path / "in.txt").write_text("hello\nworld\n", encoding="utf-16")
    assert aios("embed", "--file", tmp_path / "in.txt").stdout == piped


def test_embed_json_lines(aios, tiny_models):
    rows = [json.loads(line) for line in aios("embed", "hello", "world", "--json").stdout.splitlines()]
    assert [row["text"] for row in rows] == ["hello", "world"]
    assert len(rows[0]["embedding"]) == 32


def test_texts_beyond_the_window_are_counted(aios, aios_json, tiny_models):
    # Every letter is a token; two more stand around the text, and the window takes 128.
    fits, longer = "x" * 126, "x" * 127
    result = aios("embed", fits, longer, "--json")
    assert [json.loads(line)["truncated"] for line in result.stdout.splitlines()] == [False, True]
    assert result.stderr == "1 of 2 texts is longer than the model's 128 tokens: only the beginning counts\n"
    assert aios("embed", longer, "--quiet").stderr == ""
    assert aios("embed", fits).stderr == ""
    compared = aios("similarity", fits, longer, longer, "--json")
    found = json.loads(compared.stdout)
    assert (found["truncated"], [row["truncated"] for row in found["similarities"]]) == (False, [True, True])
    assert compared.stderr.startswith("2 of 3 texts are longer")


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_embed_to_a_file(aios, tiny_models, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"vectors.{suffix}"
    result = aios("embed", "hello", "world", "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    if suffix == "npy":
        vectors = np.load(out)
    elif suffix == "jsonl":
        vectors = np.array([json.loads(line)["embedding"] for line in out.read_text().splitlines()])
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(out)
        assert table["text"].to_pylist() == ["hello", "world"]
        vectors = np.array(table["embedding"].to_pylist())
    direct = [line.split() for line in aios("embed", "hello", "world").stdout.splitlines()]
    assert np.allclose(vectors, np.array(direct, dtype=float), atol=1e-5)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_embed_never_replaces_a_pipe(aios, tiny_models, tmp_path, suffix):
    pipe = tmp_path / f"pipe.{suffix}"
    os.mkfifo(pipe)
    result = aios("embed", "hello", "--out", pipe)
    assert result.exit_code == 1
    assert f"{pipe}: expected a regular file or a free name, got a pipe" in result.stderr
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("args", "input"),
    [
        (("",), None),
        (("-",), ""),
        (("-",), "\n \n"),
        (("x", "--out", "v.csv"), None),
        (("x", "--file", "y"), None),
    ],
)
def test_embed_refuses_what_makes_no_sense(aios, tiny_models, args, input):
    assert aios("embed", *args, input=input).exit_code == 2


def test_embed_file_that_is_not_there(aios, tiny_models):
    assert aios("embed", "--file", "none.txt").exit_code == 3


def test_embed_with_a_folder_that_is_no_model(aios, home, tmp_path):
    (tmp_path / "empty").mkdir()
    result = aios("embed", "x", "--model", tmp_path / "empty")
    assert result.exit_code == 3
    assert "metadata.json" in result.stderr


def test_embed_with_damaged_weights_is_corrupt(aios, home, tmp_path, tiny_encoder_dir):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_encoder_dir, broken)
    weights = (broken / "weights.parquet").read_bytes()
    (broken / "weights.parquet").write_bytes(weights[: len(weights) // 2])
    assert aios("embed", "x", "--model", broken).exit_code == 5


def test_embed_with_a_decoder_is_refused(aios, home, tiny_decoder_dir):
    result = aios("embed", "x", "--model", tiny_decoder_dir)
    assert result.exit_code == 1
    assert "encoder" in result.stderr


def test_similarity(aios, aios_json, tiny_models):
    assert float(aios("similarity", "hello", "hello").stdout) == pytest.approx(1, abs=1e-3)
    scores = aios_json("similarity", "hello", "hello", "world")["similarities"]
    assert scores[0]["cosine"] > scores[1]["cosine"]
    assert aios("similarity", "hello", "").exit_code == 2


def test_a_file_given_as_a_text_is_pointed_out(aios, tiny_models, tmp_path):
    file = tmp_path / "in.txt"
    file.write_text("hello\n")
    for args in (("embed", file), ("similarity", "hello", file)):
        assert aios(*args).stderr.startswith(f"{file} is a file here; its name was ")
        assert aios(*args, "--quiet").stderr == ""
    for text in (tmp_path, "hello", "a/" * 5000, "\n"):
        assert "is a file" not in aios("embed", text).stderr
