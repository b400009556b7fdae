"""How learning stands: skills, what waits, what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog, times_of
from ai_os_diffusion.evolution.judging.gate import learned_of
from ai_os_diffusion.evolution.loop.evolution_router import Level
from ai_os_diffusion.evolution.loop.facts import Fact, waiting_facts, wording_key
from ai_os_diffusion.evolution.loop.feedback import Feedback, FeedbackQueue
from ai_os_diffusion.evolution.loop.skill_versions import SkillVersions
from ai_os_diffusion.evolution.skills import list_skills

__all__ = ["EvolutionStatus", "SkillStatus", "Uncertain"]


@dataclass(frozen=True)
class SkillStatus:
    """A skill, or one that was retired.

    Attributes:
        name: of the skill.
        version: in use; 0 where it was retired.
        earlier: versions before that can come back.
        pairs: that it was learned from.
        kept: how often a version of it passed the gate. rejected: how often one did not.
        right_before: share of its held-out questions that were right without it, when last asked; None where
            they never were.
        right_after: the same with it.
    """

    name: str
    version: int
    earlier: Sequence[int]
    pairs: int
    kept: int
    rejected: int
    right_before: float | None
    right_after: float | None


@dataclass(frozen=True)
class Uncertain:
    """A question whose answer is worth a person's time.

    Attributes:
        question: as it was asked last.
        answer: that was given; "" where there was none.
        uncertainty: that it is wrong; None where memory held nothing.
        times: how often it was asked.
    """

    question: str
    answer: str
    uncertainty: float | None
    times: int


@dataclass(frozen=True)
class EvolutionStatus:
    """How learning stands in a folder of skills.

    Attributes:
        skills: by name, retired ones too.
        waiting: facts that are to be learned, or were rejected and are tried again or left.
        uncertain: questions that nobody has corrected since, those most likely wrong first.
        decisions: how many there are, by what was decided; those on questions of long ago are left out.
        is_begun: whether a learning was broken off, and goes on with the next round.
    """

    skills: Sequence[SkillStatus]
    waiting: Sequence[Fact]
    uncertain: Sequence[Uncertain]
    decisions: Mapping[str, int]
    is_begun: bool

    @classmethod
    def of(cls, folder: Path) -> EvolutionStatus:
        """Read it from a folder of skills; nothing is changed."""
        decisions, feedback = DecisionLog(folder).read(), FeedbackQueue(folder).read()
        versions = SkillVersions(folder)
        pairs = {card.name: len(learned_of(card)) for card in list_skills(folder)}
        aside = {path.name for path in (folder / ".versions").glob("*") if versions.earlier(path.name)}
        counted: dict[str, int] = {}
        for one in decisions:
            counted[one.decision] = counted.get(one.decision, 0) + times_of(one.inputs)
        return cls(
            [_skill(name, versions, pairs.get(name, 0), decisions) for name in sorted({*pairs, *aside})],
            waiting_facts(feedback, decisions),
            _uncertain(decisions, feedback),
            counted,
            versions.has_begun,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "skills": [{**vars(one), "earlier": list(one.earlier)} for one in self.skills],
            "waiting": [
                {
                    "questions": list(fact.questions),
                    "answer": fact.answer,
                    "skill": fact.skill,
                    "tries": fact.tries,
                }
                for fact in self.waiting
            ],
            "uncertain": [vars(one) for one in self.uncertain],
            "decisions": dict(self.decisions),
            "is_begun": self.is_begun,
        }


def _skill(name: str, versions: SkillVersions, pairs: int, decisions: Sequence[Decision]) -> SkillStatus:
    own = [one for one in decisions if one.skill == name]
    asked = next((one.figures for one in reversed(own) if "right_after" in one.figures), {})
    return SkillStatus(
        name,
        versions.current(name),
        tuple(versions.earlier(name)),
        pairs,
        sum(one.decision == "kept" for one in own),
        sum(one.decision == "rejected" for one in own),
        asked.get("right_before"),
        asked.get("right_after"),
    )


def _uncertain(decisions: Sequence[Decision], feedback: Sequence[Feedback]) -> list[Uncertain]:
    corrected = {wording_key(text) for one in feedback for text in one.questions}
    found: dict[str, Uncertain] = {}
    for one in decisions:
        asked = one.inputs.get("situation")
        if one.decision not in (Level.UNCERTAIN.value, Level.RETRIEVE.value) or not isinstance(asked, dict):
            continue
        question, answer, uncertainty = (asked.get(key) for key in ("query", "answer", "uncertainty"))
        if not isinstance(question, str) or wording_key(question) in corrected:
            continue
        before = found.get(wording_key(question))
        found[wording_key(question)] = Uncertain(
            question,
            answer if isinstance(answer, str) else "",
            float(uncertainty) if isinstance(uncertainty, int | float) else None,
            times_of(one.inputs) + (before.times if before else 0),
        )
    # Without an answer at all it is surely none.
    return sorted(
        found.values(), key=lambda one: (-(1.0 if one.uncertainty is None else one.uncertainty), -one.times)
    )
