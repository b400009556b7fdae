import numpy as np

from ai_os_diffusion.excerpts import select_excerpts
from ai_os_diffusion.recall import RecallHit

WORDS = ["roses", "march", "train", "ten", "lawn"]


def embed(texts):
    """Which of the known words stand in a text, as vectors of length 1."""
    rows = np.array([[word in text.lower() for word in WORDS] for text in texts], np.float32) + 1e-3
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def hit(text, similarity, line, end_line):
    return RecallHit(text[:6], text, similarity, "notes.md", line, end_line)


GARDEN = hit("The lawn is green.\nCut roses in March.\nFeed them.", 0.6, 10, 12)
TRAINS = hit("The train leaves at ten. Nobody knows why.", 0.55, 20, 20)


def test_the_nearest_sentences_are_taken_with_their_lines():
    (found,) = select_excerpts(embed(["roses in march"])[0], [GARDEN, TRAINS], embed, sentences=1)
    assert (found.hit, found.text, found.quote, found.line) == (GARDEN, *["Cut roses in March."] * 2, 11)


def test_sentences_keep_the_order_of_their_passage():
    question = embed(["roses march lawn"])[0]
    first, second = select_excerpts(question, [GARDEN, TRAINS], embed, sentences=4)
    assert first.text.startswith("The lawn is green. Cut roses in March.")
    assert first.quote == "Cut roses in March."
    assert second.hit == TRAINS


def test_far_passages_and_repeated_sentences_are_left_out():
    twin = hit(GARDEN.text, 0.59, 40, 42)
    far = hit("Roses in March!", 0.3, 1, 1)
    found = select_excerpts(embed(["roses in march"])[0], [GARDEN, twin, far], embed, sentences=9)
    assert [excerpt.hit for excerpt in found] == [GARDEN]


def test_a_passage_whose_lines_are_not_those_of_the_source_keeps_its_own():
    (found,) = select_excerpts(embed(["roses"])[0], [hit("Lawn.\nRoses.", 0.6, 7, 7)], embed, sentences=1)
    assert found.line == 7


def test_no_passage_no_excerpt():
    assert select_excerpts(embed(["x"])[0], [], embed) == ()
