"""What is to be done about an answer: nothing, finding more, asking for the right one, or learning it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum

from ai_os_diffusion.evolution.decision_log import Decision
from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["Budget", "Choice", "Costs", "EvolutionRouter", "Level", "Situation"]


class Level(str, Enum):
    """What can be done, by the name that the log has for it.

    Of the levels of learning L2 is there, a skill; one that is added here gets its line in `_OPTIONS`.
    """

    NOTHING = "nothing"
    RETRIEVE = "retrieve"
    UNCERTAIN = "uncertain"
    SKILL = "L2"


@dataclass(frozen=True)
class Situation:
    """What a decision is made from; JSON values alone, so that it can be made again.

    Attributes:
        query: the question, or the one that waits longest of those that would be learned together.
        answer: what was said.
        uncertainty: calibrated probability that it is wrong; None where it is not known.
        feedback: the right answer, if it came back.
        evidence: memories near enough to the question; None where memory was not asked.
        skill: that the question belongs to; "" where it belongs to none.
        waiting: for each right answer that waits for this skill, how likely the present one is wrong.
        anew: the skill was learned on a base that is gone.
        pairs: that would be learned in all.
        seconds: that it would take, as earlier learnings took; None where there were none.
        parameters: numbers that skills hold, with this one.
        memory_bytes: that its numbers take in training.
        kept: learnings so far that passed their gate. rejected: that did not.
        tries: how often just these pairs were rejected.
    """

    query: str
    answer: str = ""
    uncertainty: float | None = None
    feedback: str | None = None
    evidence: int | None = None
    skill: str = ""
    waiting: Sequence[float] = ()
    anew: bool = False
    pairs: int = 0
    seconds: float | None = None
    parameters: int = 0
    memory_bytes: int = 0
    kept: int = 0
    rejected: int = 0
    tries: int = 0


@dataclass(frozen=True)
class Costs:
    """What things cost, in seconds of a person's time. Thresholds follow from them.

    Attributes:
        wrong: a wrong answer, until it is found out and looked up.
        correct: to say what is right.
        retrieve: to find a document and add it.
        computing: of a second of learning in the background: of electricity, and of what runs beside it.
        asked_again: how often a question is asked that was asked once.

    Raises:
        ConfigurationError: one is no positive number.
    """

    wrong: float = 60.0
    correct: float = 15.0
    retrieve: float = 45.0
    computing: float = 0.01
    asked_again: float = 1.0

    def __post_init__(self) -> None:
        _check(self, least=0.0)


@dataclass(frozen=True)
class Budget:
    """How far learning may go; None is without end.

    Attributes:
        seconds: of a round. A learning that takes longer goes on in the next.
        parameters: numbers of all skills.
        memory_bytes: of the numbers that are trained, with gradients and moments.
        least_waiting: right answers that must wait before something is learned.
        tries: how often the same pairs may be rejected before they are left until something new comes.

    Raises:
        ConfigurationError: one is no positive number.
    """

    seconds: float | None = None
    parameters: int | None = None
    memory_bytes: int | None = None
    least_waiting: int = 1
    tries: int = 2

    def __post_init__(self) -> None:
        _check(self, least=0.0)


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        level: the cheapest of what is possible.
        reasons: why, in words.
        costs: expected, of each level that was possible, in seconds of a person.
    """

    level: Level
    reasons: tuple[str, ...]
    costs: Mapping[str, float] = field(default_factory=dict)


class EvolutionRouter:
    """Chooses what costs least, as far as can be expected.

    Args:
        costs: what things cost.
        budget: how far learning may go.

    Example:
        >>> router = EvolutionRouter()
        >>> router.decide(Situation("Who serviced the boiler?", "Ann", 0.9, evidence=3)).level.value
        'uncertain'
        >>> router.decide(Situation("Who serviced the boiler?", "Ann", 0.1, evidence=3)).level.value
        'nothing'
    """

    def __init__(self, costs: Costs | None = None, budget: Budget | None = None) -> None:
        self.costs, self.budget = costs or Costs(), budget or Budget()

    def decide(self, situation: Situation) -> Choice:
        """Choose a level; the same for the same situation."""
        found = {level: option(situation, self.costs, self.budget) for level, option in _OPTIONS.items()}
        costs = {level: cost for level, (cost, _) in found.items() if cost is not None}
        # Of equals the first: the less that is done.
        level = min(costs, key=costs.__getitem__)
        reasons = [found[level][1]]
        if level is Level.NOTHING:
            reasons += [why for cost, why in found.values() if cost is None and why]
        return Choice(level, tuple(reasons), {one.value: round(cost, 6) for one, cost in costs.items()})

    def decision(self, situation: Situation) -> Decision:
        """The same for a log, with all that it was made from."""
        choice = self.decide(situation)
        inputs = {
            "situation": {**asdict(situation), "waiting": list(situation.waiting)},
            "costs": asdict(self.costs),
            "budget": asdict(self.budget),
        }
        return Decision(situation.skill, choice.level.value, choice.reasons, choice.costs, inputs=inputs)

    @staticmethod
    def replay(decisions: Iterable[Decision]) -> list[tuple[Decision, Decision]]:
        """Decide again from what was logged.

        Returns:
            Each decision of a router that would now be another, with that one.
        """
        changed = []
        for logged in decisions:
            if "situation" not in logged.inputs:
                continue
            try:
                router = EvolutionRouter(Costs(**logged.inputs["costs"]), Budget(**logged.inputs["budget"]))
                again = router.decision(Situation(**logged.inputs["situation"]))
            except (TypeError, KeyError, AttributeError) as error:
                raise ConfigurationError(
                    f"the decision of {logged.decided_at} cannot be made again: {error}; expected a "
                    "situation, costs and a budget of this release"
                ) from error
            if (again.decision, again.reasons, dict(again.figures)) != (
                logged.decision,
                tuple(logged.reasons),
                dict(logged.figures),
            ):
                changed.append((logged, again))
        return changed


Weighed = tuple[float | None, str]
"""An expected cost and the reason for it; None where it cannot be done, and why."""


def _nothing(situation: Situation, costs: Costs, _budget: Budget) -> Weighed:
    wrong = _wrong(situation)
    return wrong * costs.wrong * costs.asked_again, f"{wrong:.2f} wrong answers are to be expected"


def _retrieve(situation: Situation, costs: Costs, _budget: Budget) -> Weighed:
    if situation.evidence != 0 or situation.feedback is not None or situation.waiting or situation.skill:
        return None, ""
    # Without evidence there is no answer, and not to have one is as bad as to have a wrong one.
    return costs.retrieve, "memory holds nothing on it, and nothing was taught"


def _uncertain(situation: Situation, costs: Costs, _budget: Budget) -> Weighed:
    if situation.uncertainty is None or situation.feedback is not None or situation.waiting:
        return None, ""
    if situation.evidence == 0 and not situation.skill:
        return None, ""
    line = costs.correct / max(costs.wrong * costs.asked_again, 1e-12)
    return (
        costs.correct,
        f"wrong with a probability of {situation.uncertainty:.2f}, worth asking from {line:.2f}",
    )


def _skill(situation: Situation, costs: Costs, budget: Budget) -> Weighed:
    waiting = len(situation.waiting)
    if not waiting and not situation.anew:
        return None, ""
    if situation.tries >= budget.tries:
        return None, f"these pairs were rejected {situation.tries} times; something new has to come first"
    if waiting < budget.least_waiting and not situation.anew:
        return None, f"{waiting} right answers wait, learning begins with {budget.least_waiting}"
    for what, needed, most in (
        ("numbers in skills", situation.parameters, budget.parameters),
        ("bytes for training", situation.memory_bytes, budget.memory_bytes),
    ):
        if most is not None and needed > most:
            return None, f"it would take {needed} {what}, and {most} is the most"
    # Half of them to begin with; what was kept so far says better (Laplace's rule of succession).
    success = (situation.kept + 1) / (situation.kept + situation.rejected + 2)
    computing = costs.computing * (situation.seconds or 0.0)
    left = (1 - success) * _wrong(situation) * costs.wrong * costs.asked_again
    what = "the base it was learned on is gone" if situation.anew else f"{waiting} right answers wait"
    return computing + left, f"{what}; it succeeds with a probability of {success:.2f}"


_OPTIONS: Mapping[Level, Callable[[Situation, Costs, Budget], Weighed]] = {
    Level.NOTHING: _nothing,
    Level.RETRIEVE: _retrieve,
    Level.UNCERTAIN: _uncertain,
    Level.SKILL: _skill,
}


def _wrong(situation: Situation) -> float:
    """How many answers are wrong if nothing is done, each question asked once."""
    if situation.anew:
        # A skill that cannot be used answers none of its questions.
        return float(situation.pairs)
    if situation.waiting:
        return float(sum(situation.waiting))
    if situation.evidence == 0 and not situation.skill:
        return 1.0
    return situation.uncertainty or 0.0


def _check(values: Costs | Budget, least: float) -> None:
    for name, value in asdict(values).items():
        if value is None and isinstance(values, Budget):
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < least:
            raise ConfigurationError(f"{name} is {value!r}, expected a number of {least:g} or more")
