"""The recipe of controls: what a base says is built anew, and what is built so is known."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from ai_os_diffusion.inference import ArrowEngine
from support.side_blocks import write_control

RECIPE = Path(__file__).parents[2] / "training" / "control_cards"


@pytest.fixture(autouse=True)
def _recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for file in RECIPE.glob("*.py"):
        sys.modules.pop(file.stem, None)


def test_questions_for_judging_are_of_other_topics():
    from prompts import ACTIVITIES, OF_ACTIVITIES, OF_THINGS, THINGS, prompts

    learned, judged = prompts(held_out=False), prompts(held_out=True)
    assert len(learned) == len(set(learned)) > 200
    assert not {*learned} & {*judged}
    for ways in (OF_THINGS, OF_ACTIVITIES):
        assert all(ways[-1].format(topic) not in learned for topic in (*THINGS, *ACTIVITIES))
    kept = [topic for topic in THINGS if OF_THINGS[0].format(topic) in judged]
    assert kept
    assert not [question for question in learned if question.removesuffix(".").endswith(kept[1])]
    assert prompts(held_out=False) == learned
    assert prompts(held_out=False, seed=1) != learned


def test_what_is_said_is_cut_into_sentences():
    from examples import sentences

    said = "Rain falls from clouds. Is it cold? **Warm** rain falls as well.\n\n1. It waters the fields.\n"
    assert sentences(said) == [
        "Rain falls from clouds.",
        "Warm rain falls as well.",
        "It waters the fields.",
    ]
    assert sentences("Short. An end that is missing here and goes on") == []


def test_answers_are_built_and_known_again():
    from examples import as_list, as_reply, is_list, is_reply, keywords

    said = ["Gardening brings people together.", "It needs patience.", "Plants grow slowly."]
    assert as_list(said) == "- " + "\n- ".join(said)
    assert as_list(said[:1]) is None
    assert is_list(as_list(said))
    assert keywords(said[0]) == ["gardening", "brings", "together"]
    assert json.loads(as_reply(said))["arguments"] == {"text": said[0], "keywords": keywords(said[0])}
    assert is_reply(as_reply(said))
    assert as_reply(["It is so."]) is None
    assert as_reply([]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- one point alone",
        "- one\n- two\nand a line",
        "1. one\n2. two",
        '{"tool": "reply"}',
        '{"tool": "search", "arguments": {"text": "a", "keywords": ["b"]}}',
        '{"tool": "reply", "arguments": {"text": "a", "keywords": []}}',
        '{"tool": "reply", "arguments": {"text": "a", "keywords": ["b", 1]}}',
        '{"tool": "reply", "arguments": {"text": 1, "keywords": ["b"]}}',
        '{"tool": "reply", "arguments": {"text": "a", "keywords": ["b"]}, "more": 1}',
        '{"tool": "reply", "arguments": {"text": "a", "keywords": ["b"]}',
        "[" * 100_000,
    ],
)
def test_what_is_built_otherwise_is_neither(text):
    from examples import is_list, is_reply

    assert not is_list(text)
    assert not is_reply(text)


def test_the_pairs_of_a_model(tiny_decoder_dir, tmp_path, monkeypatch):
    """Random weights write no sentences; what they write is asked for all the same."""
    monkeypatch.setattr(
        sys, "argv", ["examples.py", str(tmp_path), "--model", str(tiny_decoder_dir), "--most", "3"]
    )
    runpy.run_path(str(RECIPE / "examples.py"), run_name="__main__")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{name}{end}.jsonl" for name in ("list", "reply") for end in ("", "_test")}


def test_answers_use_the_card_that_is_in_use(tiny_decoder_dir, tmp_path):
    from examples import answers

    with ArrowEngine(tiny_decoder_dir, device="cpu", num_threads=1) as engine:
        plain = answers(engine, ["What is rain?"], 8)
        with engine.using(write_control(engine, tmp_path)):
            assert answers(engine, ["What is rain?"], 8) != plain
        assert answers(engine, ["What is rain?"], 8) == plain
