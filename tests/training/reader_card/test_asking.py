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
    return "\n".join(
        f"{number}. how; so\n   Answer: {answer}\n   Question: {question}"
        for number, (question, answer) in enumerate(pairs, 1)
    )


def wanted(prompts, language="en"):
    """What is drawn for a passage."""
    return prompts.draw(language, random.Random(1))


def test_answers_stand_in_the_passage_whatever_white_space_is_between(prompts):
    drawn = wanted(prompts)
    reply = replied(
        ("how bright is it if I say nothing to lamp?", "The default is 40"),
        ("What does lamp --dim do?", '"Set how bright the lamp burns."'),
        ("How do I buy a lamp?", "Go to the shop"),
    )
    kept = prompts.read(reply, TEXT, drawn)
    assert [one.answer for one in kept] == ["The default is 40", "Set how bright the lamp\n    burns."]
    assert all(TEXT[one.start : one.start + len(one.answer)] == one.answer for one in kept)
    assert [(one.kind, one.form) for one in kept] == list(drawn.styles[:2])


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
    assert prompts.read(replied((question, "The default is 40")), TEXT, wanted(prompts)) == []


def test_what_is_asked_twice_is_taken_once(prompts):
    reply = replied(("lamp brightness default?", "The default is 40"), ("Lamp: brightness default", "40"))
    assert len(prompts.read(reply, TEXT, wanted(prompts))) == 1


def test_overlap_counts_words_of_the_passage(prompts):
    reply = replied(("default brightness of a lamp", "40"), ("jaki jest poziom domyslny", "40"))
    assert [one.overlap for one in prompts.read(reply, TEXT, wanted(prompts))] == [1.0, 0.0]


def test_examples_are_such_as_would_be_kept(prompts):
    for told, reply in prompts.shown():
        assert reply.count("Answer:") == told.rstrip().count("\n", told.rindex(" questions in ")) == 3
        assert told.startswith("Document ")
    for one in prompts._told["examples"]:
        drawn = type(wanted(prompts))(
            one["asked_in"], tuple((q["kind"], q["form"]) for q in one["questions"])
        )
        reply = replied(*((q["question"], q["answer"]) for q in one["questions"]))
        assert len(prompts.read(reply, one["text"].strip(), drawn)) == 3
        assert all(
            kind in prompts._told["kinds"] and form in prompts._told["forms"] for kind, form in drawn.styles
        )


def test_one_in_some_is_asked_in_another_language(prompts):
    drawn = [prompts.draw("de", random.Random(number)).asked_in for number in range(2000)]
    assert 0.06 < sum(language != "de" for language in drawn) / len(drawn) < 0.14


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
