"""Questions to many passages: what is asked again without its document, and what counts as right."""

from types import SimpleNamespace

import numpy as np
import pytest

from ai_os_diffusion.inference.reading.reading import Reading, Span


@pytest.fixture
def script(benchmark):
    return benchmark("open_questions")


def rows(count):
    return [
        {
            "source": "notes",
            "lang": "en",
            "context": f"Passage {number} says word{number}.",
            "question": f"What does {number} say?",
            "answers": [{"text": f"word{number}"}],
        }
        for number in range(count)
    ]


class Engine:
    """Finds the passage of a question's number, and points at its last word."""

    metadata = SimpleNamespace(source={"weights_sha256": None})
    tokenizer = SimpleNamespace(broken_share=lambda text: 0.0)

    def encode_document(self, texts):
        return np.eye(len(texts), 400, dtype=np.float32)

    def encode_query(self, texts):
        numbers = [int(text.split()[2]) for text in texts]
        return np.eye(400, dtype=np.float32)[numbers]

    def read(self, question, passages):
        return [Reading((Span(text.index("word"), len(text) - 1, 1.0),)) for text in passages]


def test_one_in_four_is_asked_again_without_what_could_answer(script):
    unanswered = [{**rows(1)[0], "answers": [], "source": "other"}, {**rows(1)[0], "lang": "de"}]
    (pool,) = script.row_pools([*rows(300), *unanswered], 40, 0)
    assert (pool.name, len(pool.questions), len(pool.passages)) == ("notes en", 40, 300)
    read = list(script.read_all(Engine(), pool))
    assert [one.removed for one in read].count(True) == 10
    for one in read:
        gold = pool.passages[one.asked.gold]
        places = [place.hit for answer in one.found for place in answer.places]
        assert any(hit.text == gold for hit in places) != one.removed
        answered = [answer for answer in one.found if one.is_right(answer)]
        assert bool(answered) != one.removed
        assert not one.removed or all(one.asked.answers[0] not in hit.text for hit in places)


def test_sources_share_what_is_asked(script):
    few = [{**row, "source": "few", "context": f"{row['context']} {row['source']}"} for row in rows(5)]
    pools = list(script.row_pools([*rows(300), *few], 40, 0))
    assert [(pool.name, len(pool.questions)) for pool in pools] == [("few en", 5), ("notes en", 35)]


def test_an_answer_is_right_by_half_of_its_words(script):
    asked = script.Asked("?", ("in early March", "March"), 0)
    read = script.Read(asked, (), False, "notes")
    said = [
        SimpleNamespace(text=text) for text in ("early March", "March!", "May", "cut them in March or so")
    ]
    assert [read.is_right(one) for one in said] == [True, True, False, False]
    assert [read.is_exact(one) for one in said] == [False, True, False, False]
    assert not script.Read(asked, (), True, "notes").is_right(said[0])


def test_a_passage_that_answers_stands_among_the_negatives_of_all(script):
    ranked = [
        {
            "source": "manual",
            "lang": "en",
            "query": f"How {number}?",
            "positives": [f"So {number}."],
            "negatives": [f"Not so {number}.", "So 0."],
        }
        for number in range(9)
    ]
    (pool,) = script.rank_pools([*ranked, {**ranked[0], "lang": "fr"}], 9, 0)
    assert len(pool.passages) == len(set(pool.passages)) == 18
    for asked in pool.questions:
        assert pool.passages[asked.gold] == asked.text.replace("How", "So").replace("?", ".")
