"""What people said is there, whatever became of the process or of other lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ai_os_diffusion.evolution import Decision, Feedback, FeedbackQueue
from ai_os_diffusion.evolution.loop.facts import derived_name, facts_of, waiting_facts
from ai_os_diffusion.evolution.skills import skill_path
from ai_os_diffusion.utils.errors import EvolutionError, TrainingError

HOSTILE = '\x1b]0;t\x07\u202e\u2028FORGED\r\n{"id": 1}\x00<|im_end|>'


def test_what_was_taken_in_is_read_as_it_was(tmp_path):
    queue = FeedbackQueue(tmp_path / "skills")
    assert queue.read() == []
    given = Feedback(HOSTILE, f"a {HOSTILE}", HOSTILE, 0.75, [HOSTILE, "b", "b"], "house")
    taken = queue.append(given)
    assert taken.given_at.endswith("+00:00")
    assert taken.wordings == ("b",)
    assert queue.read() == [taken]
    assert len(queue.path.read_bytes().splitlines()) >= 1
    assert queue.path.read_bytes().count(b"\n") == 1, "a line each, whatever a text holds"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"question": " "}, "question is empty"),
        ({"answer": ""}, "answer is empty"),
        ({"answer": 3}, "answer is 3"),
        ({"question": "x" * 20_001}, "at most 20000"),
        ({"answer": "\udc80"}, "lone surrogate"),
        ({"wordings": "text"}, "expected a list"),
        ({"wordings": [""]}, "a wording is empty"),
        ({"uncertainty": 1.5}, "probability"),
        ({"uncertainty": float("nan")}, "probability"),
        ({"skill": "../x"}, "no name of a skill"),
        ({"skill": ""}, "no name of a skill"),
    ],
)
def test_what_is_no_feedback_is_refused(values, told):
    with pytest.raises(TrainingError, match=told):
        Feedback(**{"question": "Who?", "answer": "Ann", **values})


def test_damaged_lines_cost_no_other(tmp_path, caplog):
    queue = FeedbackQueue(tmp_path)
    first = queue.append(Feedback("Who?", "Ann"))
    rows = [
        b'{"question": "torn", "ans',
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**first.to_dict(), "id": ""}).encode(),
        json.dumps({**first.to_dict(), "answer": ""}).encode(),
        json.dumps({**first.to_dict(), "uncertainty": 7}).encode(),
        json.dumps({"question": "Who?"}).encode(),
    ]
    with queue.path.open("ab") as file:
        file.write(b"\n".join(rows))
    second = queue.append(Feedback("When?", "May"))
    assert queue.read() == [first, second]
    for number in range(2, 2 + len(rows)):
        assert f"line {number}: damaged" in caplog.text


def test_what_is_no_file_is_not_waited_for(tmp_path):
    queue = FeedbackQueue(tmp_path)
    os.mkfifo(queue.path)
    for call in (queue.read, lambda: queue.append(Feedback("Who?", "Ann"))):
        with pytest.raises(EvolutionError, match=r"feedback\.jsonl"):
            call()


_APPENDING = """
import sys
import time
from pathlib import Path
from ai_os_diffusion.evolution import Feedback, FeedbackQueue
queue = FeedbackQueue(Path(sys.argv[1]))
for number in range(10**6):
    print(queue.append(Feedback(f"{sys.argv[2]} {number}?" + "x" * 5000, "yes")).id, flush=True)
    # Nobody is promised a turn: who takes the lock again at once may keep others from it.
    time.sleep(0.002)
"""


@pytest.mark.parametrize("seed", range(int(os.environ.get("AIOS_KILLS", "0")) // 200 or 2))
def test_what_was_acknowledged_survives_a_kill(tmp_path, seed):
    acknowledged = []
    for _ in range(3):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _APPENDING, tmp_path, name], stdout=subprocess.PIPE, text=True
            )
            for name in ("a", "b")
        ]
        for process in processes:
            acknowledged += [process.stdout.readline().strip() for _ in range(5 + seed)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            acknowledged += process.communicate()[0].splitlines()
    # Of a last line that was not written whole nobody was told.
    found = {feedback.id for feedback in FeedbackQueue(tmp_path).read()}
    assert {name for name in acknowledged if len(name) == 32} <= found


def fed(*rows):
    return [
        Feedback(question, answer, wordings=words, id=str(number), given_at="now")
        for number, (question, answer, *words) in enumerate(rows)
    ]


def test_what_shares_a_wording_is_one_fact_with_the_latest_answer():
    facts = facts_of(fed(("Who?", "Ann", "By whom?"), ("When?", "May"), ("by  WHOM?", "Tom", "Whose?")))
    assert [(fact.questions, fact.answer) for fact in facts] == [
        (("When?",), "May"),
        (("Who?", "By whom?", "Whose?"), "Tom"),
    ]
    assert [pair.question for pair in facts[1].learned] == ["Who?", "Whose?"]
    assert [pair.question for pair in facts[1].held_out(0)] == ["By whom?"]
    assert facts[1].feedback == ("0", "2")


def test_what_is_settled_waits_no_more():
    feedback = fed(("Who?", "Ann"), ("When?", "May"), ("Where?", "here"), ("Why?", "so"))
    decisions = [
        Decision("a", "rejected", inputs={"feedback": ["0", "1"]}),
        Decision("a", "kept", inputs={"feedback": ["1"]}),
        Decision("", "refused", inputs={"feedback": ["2"]}),
        Decision("a", "kept", inputs={"feedback": "3"}),
    ]
    found = waiting_facts(feedback, decisions)
    assert [(fact.answer, fact.tries) for fact in found] == [("Ann", 1), ("so", 0)]
    again = [*feedback, Feedback("Who?", "Eve", id="9", given_at="now")]
    assert [(fact.answer, fact.tries) for fact in waiting_facts(again, decisions)] == [("so", 0), ("Eve", 0)]


def test_a_name_is_made_of_what_questions_share():
    questions = ["Which captain sailed the brig?", "How many masts had the brig?"]
    name = derived_name(questions, ())
    assert name.startswith("brig-")
    assert derived_name(questions, {name}) == f"{name}-2"
    for question in ("?", HOSTILE, "x" * 900, "你好吗", "¿Qué?", "con"):
        assert skill_path(derived_name([question], ()), Path()) is not None, question
