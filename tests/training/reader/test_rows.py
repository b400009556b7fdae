"""Rows of questions: read whole, refused by name."""

from __future__ import annotations

import pytest

from ai_os_diffusion.training.reader.rows import Asked, Passage, read_asked
from ai_os_diffusion.utils.errors import TrainingError


def test_a_row_says_where_answers_stand_and_what_answers_as_a_whole():
    row = {
        "question": "who sat?",
        "passages": [
            {"text": "the cat sat", "answers": [{"start": 4, "text": "cat"}]},
            {"text": "how to sit", "relevant": True, "block": True},
            {"text": "a dog"},
        ],
        "kind": "cats",
        "source": "a book",
        "licence": "CC0-1.0",
    }
    passages = (
        Passage("the cat sat", ((4, 7),), is_relevant=True),
        Passage("how to sit", (), is_relevant=True, is_block=True),
        Passage("a dog"),
    )
    assert Asked.of(row, "row") == Asked("who sat?", passages, "cats")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "q"}, "passages"),
        ({"question": " ", "passages": [{"text": "a"}]}, "question is ' '"),
        ({"question": "q", "passages": []}, "at least one passage"),
        ({"question": "q", "passages": [{"text": "a"}], "answer": "b"}, "key 'answer' is not known"),
        ({"question": "q", "passages": [{"text": "a", "start": 1}]}, "key 'start' is not known"),
        (
            {"question": "q", "passages": [{"text": "a b", "answers": [{"start": 0, "text": "b"}]}]},
            "where 'b' stands",
        ),
        ({"question": "q", "passages": [{"text": "a", "answers": [{"start": 0, "text": ""}]}]}, "start is 0"),
        ({"question": "q", "passages": [{"text": 1}]}, "expected a text"),
        ({"question": "q", "passages": [{"text": "a", "relevant": "yes"}]}, "relevant"),
    ],
)
def test_what_is_no_row_is_named(row, said):
    with pytest.raises(TrainingError) as error:
        Asked.of(row, "rows.jsonl:7")
    assert said in str(error.value)
    assert "rows.jsonl:7" in str(error.value)


def test_a_line_that_is_no_object_is_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "q", "passages": [{"text": "a"}]}\n[1]\n')
    with pytest.raises(TrainingError, match=r"rows\.jsonl:2: expected an object, got list"):
        list(read_asked(file))
