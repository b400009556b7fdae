"""The log of decisions is bounded, and keeps what learning, rollback, replay and history are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ai_os_diffusion.evolution import (
    Decision,
    DecisionLog,
    EvolutionRouter,
    EvolutionStatus,
    Feedback,
    FeedbackQueue,
    Situation,
)
from ai_os_diffusion.evolution import decision_log as module
from ai_os_diffusion.utils.files import appended_log


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(appended_log, "_CHUNK", 4000)
    monkeypatch.setattr(module, "_MOST_SITUATIONS", 3)


def unsure(number, spaces=" "):
    return EvolutionRouter().decision(Situation(f"Who{spaces}is number {number}?", "Ann", 0.9, evidence=1))


def test_questions_that_were_asked_long_ago_make_room(tmp_path):
    log = DecisionLog(tmp_path)
    sizes = []
    for number in range(300):
        log.append(unsure(number))
        sizes.append(log.path.stat().st_size)
    assert max(sizes) < 8000
    queries = [one.inputs["situation"]["query"] for one in log.read()]
    assert queries[-1] == "Who is number 299?"
    assert queries == [f"Who is number {number}?" for number in range(300 - len(queries), 300)]


def test_a_question_that_is_asked_again_counts(tmp_path):
    log = DecisionLog(tmp_path)
    for number in range(60):
        log.append(unsure(number % 2, " " * (1 + number % 3)))
    assert len(log.read()) < 20
    (first, second) = EvolutionStatus.of(tmp_path).uncertain
    assert {first.times, second.times} == {30}
    assert EvolutionStatus.of(tmp_path).decisions == {"uncertain": 60}


def test_what_settles_and_changes_stays_in_its_order(tmp_path):
    log, queue = DecisionLog(tmp_path), FeedbackQueue(tmp_path)
    given = [queue.append(Feedback(f"Who wrote {number}?", "Ada")) for number in range(8)]
    words = ("kept", "rejected", "refused", "rolled back", "retired", "removed", "dropped", "kept")
    lasting = []
    for feedback, word in zip(given, words, strict=True):
        lasting.append(
            replace(
                Decision("first", word, ("why",), {"version": 1.0}, inputs={"feedback": [feedback.id]}),
                decided_at="2030-01-01T00:00:00+00:00",
            )
        )
        log.append(lasting[-1])
        for number in range(20):
            log.append(unsure(number))
            log.append(Decision("first", "proven", inputs={"among": f"{number}"}))
    found = log.read()
    assert [one for one in found if one.decision in words] == lasting
    assert found[-1].inputs == {"among": "19"}
    assert len(found) < 60
    waiting = EvolutionStatus.of(tmp_path).waiting
    assert [fact.questions[0] for fact in waiting] == [f"Who wrote {number}?" for number in (1, 4, 5, 6)]


def test_each_that_is_left_can_be_replayed(tmp_path):
    log = DecisionLog(tmp_path)
    for number in range(50):
        log.append(unsure(number % 4))
    found = log.read()
    assert any(one.inputs.get("times", 1) > 1 for one in found)
    assert EvolutionRouter.replay(found) == []


def test_what_a_later_release_wrote_stays(tmp_path):
    log = DecisionLog(tmp_path)
    for number in range(40):
        log._log.append({"kind": "of a later release"}) if number == 3 else log.append(unsure(number))
    assert b"of a later release" in log.path.read_bytes()
