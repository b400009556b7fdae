"""Rows of files are examples, or errors that name file and line."""

from __future__ import annotations

import gzip
import json
import random

import pytest

from ai_os_diffusion.training import Example, Piece
from ai_os_diffusion.training.example_files import ExampleFiles, read_examples
from ai_os_diffusion.training.example_source import open_source
from ai_os_diffusion.training.settings import DataSettings
from ai_os_diffusion.utils.errors import TrainingError


def test_rows_are_text_answers_and_gaps(tmp_path):
    rows = [
        {"text": "plain"},
        {"prompt": "q", "answer": "a", "weight": 3, "block": 8},
        {"pieces": [{"text": "the "}, {"text": "cat", "written": True}], "room": 4},
        {"prompt": "fill", "kind": "form", "pieces": [{"text": "", "written": True}, {"text": "}"}]},
    ]
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    assert list(read_examples(file)) == [
        (Example("text", "", (Piece("plain"),), room=0, ends=False), 1.0),
        (Example("answer", "q", (Piece("a"),), room=0, block=8), 3.0),
        (Example("gaps", "", (Piece("the ", written=False), Piece("cat")), room=4, ends=False), 1.0),
        (Example("form", "fill", (Piece(""), Piece("}", written=False)), room=8), 1.0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "no JSON"),
        ("[]", "expected an object, got list"),
        ('{"texts": "a"}', "key 'texts' is not known"),
        ("{}", "expected one of text, answer, pieces, got none of them"),
        ('{"text": "a", "answer": "b"}', "got text and answer"),
        ('{"answer": "b"}', "an answer needs the prompt"),
        ('{"prompt": "a", "text": "b"}', "what follows a prompt is its answer"),
        ('{"text": " "}', "expected a text that is not empty"),
        ('{"text": 7}', "text is 7, expected a text"),
        ('{"pieces": [{"text": "a"}]}', "expected at least one piece that is written"),
        ('{"pieces": [7]}', "expected an object"),
        ('{"text": "a", "weight": 0}', "weight is 0"),
        ('{"text": "\\ud800"}', "text is '\\ud800', expected a text"),
    ],
)
def test_a_row_that_is_none_is_named_by_file_and_line(tmp_path, line, message):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(TrainingError) as error:
        list(read_examples(file))
    assert str(error.value).startswith(f"{file}:3")
    assert message in str(error.value)


def test_a_damaged_archive_and_an_empty_folder_are_named(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "a"}\n' * 100)[:-12])
    with pytest.raises(TrainingError, match=r"rows\.jsonl\.gz: cannot be read behind line"):
        ExampleFiles([file], {})
    (tmp_path / "none").mkdir()
    with pytest.raises(TrainingError, match="expected a file, or a folder"):
        ExampleFiles([tmp_path / "none"], {})


def test_the_same_state_draws_the_same_row_and_long_texts_are_cut_at_words(tmp_path):
    words = " ".join(f"word{i}" for i in range(900))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": words}) + "\n" + '{"prompt": "q", "answer": "a"}\n')
    source = ExampleFiles([tmp_path], {}, text_chars=200)
    assert source.kinds == {"text": 1.0, "answer": 1.0}
    drawn = [source.draw("text", random.Random(seed)).answer for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(text) <= 200 and text in words for text in drawn)
    with pytest.raises(TrainingError, match="no kind 'form' in the files; there are text, answer"):
        ExampleFiles([tmp_path], {"form": 1})


def test_a_program_draws_what_it_likes(tmp_path):
    (tmp_path / "beside.py").write_text("WORD = 'cat'\n")
    (tmp_path / "drawn_for_this_test.py").write_text(
        "from beside import WORD\n"
        "from ai_os_diffusion.training import Example, Piece\n"
        "class Drawn:\n"
        "    kinds = {'a': 0.5, 'b': 0.5}\n"
        "    def __init__(self, times): self.times = times\n"
        "    def draw(self, kind, rng): return Example(kind, '', (Piece(WORD * self.times),))\n"
    )
    program = f"{tmp_path / 'drawn_for_this_test.py'}:Drawn"
    source = open_source(DataSettings(program=program, arguments={"times": 2}, kinds={"b": 1.0}))
    assert source.kinds == {"b": 1.0}
    assert source.draw("b", random.Random(0)).answer == "catcat"
    with pytest.raises(TrainingError, match="has no 'Other'"):
        open_source(DataSettings(program=program.replace("Drawn", "Other")))
    with pytest.raises(TrainingError, match="not found; data"):
        open_source(DataSettings(program="none.py:X"))
