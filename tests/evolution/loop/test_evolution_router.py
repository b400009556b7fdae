"""What costs least is chosen, with its reasons, and the same is chosen again from the log."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ai_os_diffusion.evolution import (
    Budget,
    Costs,
    Decision,
    DecisionLog,
    EvolutionRouter,
    Level,
    Situation,
)
from ai_os_diffusion.utils.errors import ConfigurationError

QUESTION = "Who serviced the boiler?"


def level(situation, costs=None, budget=None):
    return EvolutionRouter(costs, budget).decide(situation).level


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (Situation(QUESTION, "Ann", 0.05, evidence=3), Level.NOTHING),
        (Situation(QUESTION, "Ann", 0.9, evidence=3), Level.UNCERTAIN),
        (Situation(QUESTION, "Ann", None, evidence=3), Level.NOTHING),
        (Situation(QUESTION, evidence=0), Level.RETRIEVE),
        (Situation(QUESTION, evidence=0, skill="house", uncertainty=0.0), Level.NOTHING),
        (Situation(QUESTION, "Ann", 0.9, feedback="Tom", waiting=(1.0,), pairs=1), Level.SKILL),
        (Situation(QUESTION, "Tom", 0.9, feedback="Tom", waiting=(0.0,), pairs=1), Level.NOTHING),
        (Situation(QUESTION, anew=True, skill="house", pairs=5), Level.SKILL),
    ],
)
def test_what_costs_least_is_chosen(situation, expected):
    choice = EvolutionRouter().decide(situation)
    assert choice.level is expected
    assert choice.reasons[0]
    assert choice.costs[expected.value] == min(choice.costs.values())


def test_the_line_of_uncertainty_follows_from_costs():
    asked = [Situation(QUESTION, "Ann", step / 100, evidence=1) for step in range(101)]
    for costs, line in ((Costs(wrong=60, correct=15), 0.25), (Costs(wrong=60, correct=30), 0.5)):
        first = next(one.uncertainty for one in asked if level(one, costs) is Level.UNCERTAIN)
        assert first == pytest.approx(line + 0.01)


def test_learning_has_to_be_worth_its_time():
    def waiting(count, seconds=2000.0, **values):
        return Situation(
            QUESTION, skill="house", waiting=(1.0,) * count, pairs=250, seconds=seconds, **values
        )

    dear = Costs(computing=0.05)
    assert level(waiting(1), dear) is Level.NOTHING
    assert level(waiting(5), dear) is Level.SKILL
    assert level(waiting(1, seconds=100.0), dear) is Level.SKILL
    # What was mostly rejected so far has to promise more.
    assert level(waiting(5, kept=1, rejected=20), dear) is Level.NOTHING


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        (Budget(least_waiting=3), "learning begins with 3"),
        (Budget(parameters=999), "1000 numbers in skills, and 999 is the most"),
        (Budget(memory_bytes=15_999), "16000 bytes for training"),
        (Budget(tries=1), "rejected 1 times; something new has to come first"),
    ],
)
def test_a_budget_holds_learning_back_and_says_so(budget, why):
    situation = Situation(
        QUESTION, waiting=(1.0, 1.0), pairs=2, parameters=1000, memory_bytes=16_000, tries=1
    )
    assert level(situation) is Level.SKILL
    choice = EvolutionRouter(budget=budget).decide(situation)
    assert choice.level is Level.NOTHING
    assert any(why in reason for reason in choice.reasons)


def test_a_log_can_be_decided_again(tmp_path):
    rng, log = random.Random(0), DecisionLog(tmp_path)
    log.append(Decision("house", "kept"))
    for _ in range(200):
        situation = Situation(
            QUESTION,
            uncertainty=rng.choice([None, rng.random()]),
            evidence=rng.choice([None, 0, 2]),
            skill=rng.choice(["", "house"]),
            waiting=[rng.random() for _ in range(rng.randrange(4))],
            seconds=rng.choice([None, rng.random() * 1e4]),
            kept=rng.randrange(5),
            rejected=rng.randrange(5),
            tries=rng.randrange(4),
        )
        costs = Costs(computing=rng.random() / 10)
        log.append(EvolutionRouter(costs, Budget(least_waiting=rng.randrange(3))).decision(situation))
    logged = log.read()
    assert len({one.decision for one in logged}) == 5
    assert EvolutionRouter.replay(logged) == []
    forged = [replace(one, decision="L2") for one in logged if one.decision == "nothing"]
    changed = EvolutionRouter.replay(forged)
    assert [(one.decision, again.decision) for one, again in changed] == [("L2", "nothing")] * len(forged)
    assert forged


def test_what_cannot_be_decided_again_is_named():
    strange = Decision("house", "L2", inputs={"situation": {"mood": 3}, "costs": {}, "budget": {}})
    with pytest.raises(ConfigurationError, match=r"cannot be made again.*mood"):
        EvolutionRouter.replay([strange])


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), "dear", True])
def test_costs_and_budgets_are_numbers(wrong):
    with pytest.raises(ConfigurationError, match="wrong is"):
        Costs(wrong=wrong)
    with pytest.raises(ConfigurationError, match="seconds is"):
        Budget(seconds=wrong)
