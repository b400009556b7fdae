"""Questions of a language model: what is kept of its replies, and how they are kept."""

from __future__ import annotations

import random

import pytest

TEXT = (
    "lamp manual > OPTIONS\n--dim LEVEL\n"
    "    Set how bright the lamp\n    burns. The default is 40, and 0 puts it out."
)


@pytest.fixture
def prompts(asking):
    """Those of the recipe."""
    from prompts import Prompts

    return Prompts(asking / "asking.toml")


def replied(*pairs):
    """A reply as the examples show it."""
    return "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in pairs)


def test_answers_stand_in_the_passage_whatever_white_space_is_between(prompts):
    reply = replied(
        ("how bright is it if I say nothing to lamp?", "the default is 40"),
        ("What does lamp --dim do?", '"Set how bright the lamp burns."'),
        ("How do I buy a lamp?", "Go to the shop"),
    )
    kept = prompts.read(reply, TEXT)
    assert [one.answer for one in kept] == ["The default is 40", "Set how bright the lamp\n    burns."]
    assert all(TEXT[one.start : one.start + len(one.answer)] == one.answer for one in kept)


@pytest.mark.parametrize(
    "question",
    [
        "What is the default in the document?",
        "Is it true that the default is 40 for lamp?",
        "how",
        "--dim LEVEL",
        "Welche Helligkeit nennt dieser Abschnitt?",
    ],
)
def test_questions_that_are_no_use_are_left_out(prompts, question):
    assert prompts.read(replied((question, "The default is 40")), TEXT) == []


def test_what_is_asked_twice_is_taken_once(prompts):
    reply = replied(("lamp brightness default?", "The default is 40"), ("Lamp: brightness default", "40"))
    assert len(prompts.read(reply, TEXT)) == 1


def test_overlap_counts_words_of_the_passage(prompts):
    reply = replied(("default brightness of a lamp", "40"), ("jaki jest poziom domyslny", "40"))
    assert [one.overlap for one in prompts.read(reply, TEXT)] == [1.0, 0.0]


def test_examples_are_such_as_would_be_kept(prompts):
    texts = {one["name"]: one["text"] for one in prompts._told["documents"]}
    for manner in prompts.manners:
        for told, reply in prompts.shown(manner):
            text = next(text for name, text in texts.items() if told.startswith(f"Document {name}:"))
            assert text.strip() in told
            assert len(prompts.read(reply, text)) == 2


def test_a_passage_is_asked_in_each_manner_once_those_of_weight_sooner(prompts):
    orders = [prompts.order(random.Random(number)) for number in range(2000)]
    assert all(sorted(order) == sorted(prompts.manners) for order in orders)
    first = [order[0] for order in orders]
    assert first.count("plain") > 1.5 * first.count("foreign") > 0


def test_foreign_questions_are_in_another_language(prompts):
    for language in ("en", "de", "ja"):
        asked = {prompts.asked_in("foreign", language, random.Random(number)) for number in range(50)}
        assert language not in asked
        assert len(asked) > 1
        assert prompts.asked_in("plain", language, random.Random(1)) == language


def test_parts_survive_being_cut_off_and_are_gone_on_with(asking, tmp_path):
    from parts import Parts, lines_of

    first = Parts(tmp_path, "questions")
    first.write([{"n": 1}])
    first.write([{"n": 2}])
    second = Parts(tmp_path, "questions")
    second.write([{"n": 3}])
    assert [path.name for path in second.paths()] == ["questions-00.jsonl.gz", "questions-01.jsonl.gz"]
    whole = second.paths()[0].read_bytes()
    second.paths()[0].write_bytes(whole[:-4])
    assert list(lines_of(second.paths()[0])) == [{"n": 1}, {"n": 2}]
    second.paths()[0].write_bytes(whole)
    assert [row["n"] for row in second.rows()] == [1, 2, 3]
