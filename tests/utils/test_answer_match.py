"""Answers compared as SQuAD compares them."""

import pytest

from ai_os_diffusion.utils.answer_match import plain, word_f1


def test_case_punctuation_and_articles_do_not_count():
    assert plain("The Old, old bridge!") == plain("old old bridge") == "old old bridge"
    assert plain("a") == plain("") == ""
    assert plain("theatre") == "theatre"


@pytest.mark.parametrize(
    ("said", "expected", "f1"),
    [
        ("the Old bridge", "old bridge!", 1.0),
        ("one two", "two three", 0.5),
        ("", "the", 1.0),
        ("", "one", 0.0),
    ],
)
def test_shared_words_count_with_precision_and_recall(said, expected, f1):
    assert word_f1(said, expected) == f1
