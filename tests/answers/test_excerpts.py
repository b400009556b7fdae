import numpy as np

from ai_os_diffusion.answers.excerpts import Sentence, excerpts_of, nearest_sentences, worth_quoting
from ai_os_diffusion.answers.recall import RecallHit

WORDS = ["roses", "march", "train", "ten", "lawn"]


def embed(texts):
    """Which of the known words stand in a text, as vectors of length 1."""
    rows = np.array([[word in text.lower() for word in WORDS] for text in texts], np.float32) + 1e-3
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def hit(text, similarity, line, end_line):
    return RecallHit(text[:6], text, similarity, "notes.md", line, end_line)


def nearest(question, hits, most):
    found = nearest_sentences(question, embed([question])[0], hits, embed, most)
    assert all(sentence.score <= 1 for sentence in found)
    return found


GARDEN = hit("The lawn is green.\nCut roses in March.\nFeed them.", 0.6, 10, 12)
TRAINS = hit("The train leaves at ten. Nobody knows why.", 0.55, 20, 20)


def test_the_nearest_sentence_is_taken_with_its_line():
    (found,) = nearest("roses in march", [GARDEN, TRAINS], 1)
    assert (found.hit, found.text, found.line) == (GARDEN, "Cut roses in March.", 11)


def test_words_of_the_question_count_where_vectors_are_alike():
    twin = hit("Trim roses in March. Prune roses in March.", 0.6, 1, 1)
    assert nearest("when to prune roses in March", [twin], 1)[0].text == "Prune roses in March."


def test_sentences_are_grouped_by_passage_in_its_order_nearest_passage_first():
    found = nearest("roses march lawn", [TRAINS, GARDEN], 4)
    first, second = excerpts_of(found)
    assert first.text.startswith("The lawn is green. Cut roses in March.")
    assert (first.hit, second.hit) == (GARDEN, TRAINS)
    assert first.to_dict()["excerpt"] == first.text


def test_far_passages_and_repeated_sentences_are_left_out():
    twin = hit(GARDEN.text, 0.59, 40, 42)
    far = hit("Roses in March!", 0.3, 1, 1)
    found = nearest("roses in march", [GARDEN, twin, far], 9)
    assert len(found) == 3
    assert all(sentence.hit is GARDEN for sentence in found)


def test_the_next_sentence_is_quoted_only_where_it_is_nearly_as_near():
    def scored(*scores):
        return [Sentence(GARDEN, 0, str(score), score) for score in scores]

    assert worth_quoting(scored(0.9, 0.8)) == tuple(scored(0.9))
    assert worth_quoting(scored(0.9, 0.88, 0.87)) == tuple(scored(0.9, 0.88))


def test_a_passage_whose_lines_are_not_those_of_the_source_keeps_its_own():
    (found,) = nearest("roses", [hit("Lawn.\nRoses.", 0.6, 7, 7)], 1)
    assert found.line == 7


def test_no_passage_no_sentence():
    assert nearest("x", [], 3) == ()
    assert nearest("x", [hit(" \n ", 0.6, 1, 1)], 3) == ()
