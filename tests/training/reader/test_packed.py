"""Questions as ids: windows that overlap, answers counted in them, files that are checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.training.reader.batches import open_questions
from ai_os_diffusion.training.reader.packed import PackedQuestions
from ai_os_diffusion.training.reader.recipe import WindowSettings
from ai_os_diffusion.training.reader.rows import Asked, Passage
from ai_os_diffusion.utils.errors import TrainingError

SETTINGS = WindowSettings(question=6, passage=10, overlap=4, span=4)
LONG = "abcdefghijklmnopqrstuvwxy"


def packed(folder, *rows: Asked) -> PackedQuestions:
    return PackedQuestions.of(rows, folder, SETTINGS)


def spelled(folder, ids) -> str:
    return FastTokenizer(folder).decode(ids).replace("##", "").replace(" ", "")


def test_an_answer_is_in_each_window_that_holds_all_of_it(tiny_encoder_dir):
    start = LONG.index("hi")
    found = packed(tiny_encoder_dir, Asked("long question", (Passage(LONG, ((start, start + 2),), True),)))
    assert found.pair_spans.tolist() == [[0, 10], [6, 16], [12, 22], [18, 25]]
    assert spelled(tiny_encoder_dir, found.passage_ids[6:16]) == LONG[6:16]
    held = [
        ["".join(LONG[first + a : first + b + 1]) for a, b in found.answers[begin:end]]
        for (first, _), begin, end in zip(
            found.pair_spans, found.answer_bounds[:-1], found.answer_bounds[1:], strict=True
        )
    ]
    assert held == [["hi"], ["hi"], [], []]
    assert found.pair_flags.tolist() == [1, 1, 0, 0]
    # Of a long question the end is read, as the engine does.
    assert np.diff(found.question_bounds).tolist() == [6]
    assert spelled(tiny_encoder_dir, found.question_ids) == "estion"


def test_passages_that_are_alike_are_kept_once_and_what_is_empty_is_left_out(tiny_encoder_dir):
    same = Passage("abc", (), is_relevant=True, is_block=True)
    found = packed(
        tiny_encoder_dir,
        Asked("a", (same, Passage("de"))),
        Asked("b", (Passage("de"),)),
        Asked("c", (Passage("\t"),)),
    )
    assert (len(found), len(found.passage_ids)) == (2, 5)
    assert found.pair_flags.tolist() == [3, 0, 0]
    with pytest.raises(TrainingError, match="no questions"):
        packed(tiny_encoder_dir)


def test_a_file_gives_the_same_and_a_damaged_one_is_named(tiny_encoder_dir, tmp_path):
    made = packed(tiny_encoder_dir, Asked("a", (Passage("abc", ((0, 1),), True),)))
    path = tmp_path / "p.npz"
    made.save(path)
    again = PackedQuestions.load(path)
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(made).items())
    for changes in (
        {"pair_spans": made.pair_spans + 9},
        {"answers": made.answers + 7},
        {"kinds": made.kinds + 3},
        {"question_bounds": made.question_bounds[:1]},
    ):
        dataclasses.replace(made, **changes).save(path)
        with pytest.raises(TrainingError, match=r"p\.npz: no packed questions"):
            PackedQuestions.load(path)
    path.write_bytes(b"PK")
    with pytest.raises(TrainingError, match=r"p\.npz: no packed questions"):
        PackedQuestions.load(path)


def test_several_files_are_one_and_one_of_other_windows_is_refused(tiny_encoder_dir, make_reader, tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    recipe = make_reader([{"question": "q", "passages": [{"text": "abc"}], "kind": "first"}])
    first = PackedQuestions.of([Asked("a", (Passage("xyz"),), "second")], tiny_encoder_dir, recipe.windows)
    first.save(one)
    data = {"files": [str(one), str(tmp_path / "rows.jsonl")], "passes": {"first": 2.0}}
    both = open_questions(
        make_reader([{"question": "q", "passages": [{"text": "abc"}], "kind": "first"}], data=data),
        tiny_encoder_dir,
    )
    assert both.kind_names == ["second", "first"]
    assert both.kinds.tolist() == [0, 1]
    assert both.pair_spans.tolist() == [[0, 3], [3, 6]]
    packed(tiny_encoder_dir, Asked("a", (Passage("xyz"),))).save(two)
    with pytest.raises(TrainingError, match="was packed with windows"):
        open_questions(make_reader([], data={"files": [str(two)]}), tiny_encoder_dir)
    with pytest.raises(TrainingError, match="there is no kind 'third'"):
        open_questions(
            make_reader([], data={"files": [str(one)], "passes": {"third": 1.0}}), tiny_encoder_dir
        )
