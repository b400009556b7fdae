"""Batches: functions of the seed and a number, in which every token and label stands where it is said to."""

from __future__ import annotations

import numpy as np

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.training.reader.batches import ReaderBatches


def passage(text: str, *answers: str, **more) -> dict:
    """A passage as a row has it."""
    return {"text": text, "answers": [{"start": text.index(one), "text": one} for one in answers], **more}


ROWS = [
    {
        "question": f"q{letter}",
        "passages": [passage(f"{letter}{letter} in", "in"), {"text": f"no {letter}"}, {"text": "away"}],
    }
    for letter in "abcde"
]


def test_the_same_batch_is_drawn_again_and_an_epoch_holds_every_question_once(tiny_encoder_dir, make_reader):
    recipe = make_reader(ROWS, questions={"count": 5})
    batches, others = (ReaderBatches(tiny_encoder_dir, recipe) for _ in range(2))
    for index in (3, 0):
        assert all(np.array_equal(value, others[index][name]) for name, value in batches[index].items())
    assert not np.array_equal(batches[0]["ids"], batches[1]["ids"])
    assert sorted(batches._questions(0)) == sorted(batches._questions(7)) == [0, 1, 2, 3, 4]
    assert batches._questions(0) != batches._questions(7)


def test_passes_say_how_often_a_kind_is_drawn(tiny_encoder_dir, make_reader):
    rows = [{**row, "kind": "first" if at < 2 else "second"} for at, row in enumerate(ROWS)]
    recipe = make_reader(rows, data={"passes": {"first": 2.5, "second": 0.4}})
    drawn = ReaderBatches(tiny_encoder_dir, recipe)._epoch(0)
    assert np.bincount(drawn < 2).tolist() == [1, 5]


def test_places_and_labels_are_those_of_the_answer(tiny_encoder_dir, make_reader):
    recipe = make_reader(ROWS)
    batch, tokenizer = ReaderBatches(tiny_encoder_dir, recipe)[0], FastTokenizer(tiny_encoder_dir)
    ids, types = batch["ids"].ravel(), batch["types"].ravel()
    assert batch["places"].shape == (2, 4, 25)
    for question in range(2):
        assert sorted(batch["relevant"][question]) == [-1, 0, 0, 1]
        for window in range(3):
            places = batch["places"][question, window]
            told = places[places >= 0]
            assert tokenizer.id_to_token(int(ids[told[0]])) == "[CLS]"
            assert tokenizer.id_to_token(int(ids[told[-1] + 1])) == "[SEP]"
            assert set(types[told[1:]]) == {1}
            assert types[told[0]] == 0
            start, end = batch["start"][question, window], batch["end"][question, window]
            said = tokenizer.decode(ids[told[start] : told[end] + 1]) if start else ""
            assert said.replace("##", "").replace(" ", "") == (
                "in" if batch["relevant"][question, window] else ""
            )


def test_a_block_is_learned_as_the_recipe_says(tiny_encoder_dir, make_reader):
    rows = [{"question": "q", "passages": [passage("abc def", "abc", block=True)]}]
    labels = {"none": (0, 0), "ignore": (-1, -1), "first": (1, 3)}
    for blocks, expected in labels.items():
        batch = ReaderBatches(tiny_encoder_dir, make_reader(rows, loss={"blocks": blocks}))[0]
        assert (batch["start"][0, 0], batch["end"][0, 0]) == expected
        assert batch["relevant"][0, 0] == 1


def test_a_window_that_fits_nowhere_is_left_out_and_answers_go_first(tiny_encoder_dir, make_reader):
    rows = [{"question": "q", "passages": [{"text": "n" * 24}, passage("a" * 24, "aaa"), {"text": "m" * 24}]}]
    batch = ReaderBatches(tiny_encoder_dir, make_reader(rows, batch={"rows": 1, "length": 60}))[0]
    assert batch["relevant"].tolist() == [[1, -1, -1, -1], [1, -1, -1, -1]]
    assert (batch["document"] >= 0).sum() == 2 * 28
