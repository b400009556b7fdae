"""Whether a new version of a model is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ai_os_diffusion.evolution.judging.elsewhere import Elsewhere, log_shares
from ai_os_diffusion.evolution.judging.gate import Verdict
from ai_os_diffusion.evolution.judging.skill_test import SkillTest
from ai_os_diffusion.evolution.judging.tolerances import Tolerances
from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.evolution.skill_router import SkillRouter, everyday_questions
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids

__all__ = ["ModelGate"]


class ModelGate:
    """Lets a version pass that knows by itself what skills knew, and is elsewhere what it was.

    Args:
        engine: the version so far.
        router: of its skills.
        tolerances: how much of the rest may change.
    """

    def __init__(
        self, engine: ArrowEngine, router: SkillRouter, tolerances: Tolerances | None = None
    ) -> None:
        self._engine, self._router, self._tolerances = engine, router, tolerances or Tolerances()

    def judge(self, engine: ArrowEngine, held_out: Sequence[QAPair]) -> Verdict:
        """Judge a version.

        Args:
            engine: it, without skills.
            held_out: wordings of what all skills were taught, which none learned from.
        """
        alone, after = SkillTest.of(self._engine, held_out), SkillTest.of(engine, held_out)
        before = SkillTest.routed(self._engine, self._router, held_out)
        lost = (sum(before.right) - sum(after.right)) / len(held_out)
        elsewhere = self._elsewhere(engine)
        figures = {
            "right_alone": alone.exact_match,
            "right_before": before.exact_match,
            "right_after": after.exact_match,
        }
        faults = []
        if lost > self._tolerances.lost:
            faults.append(
                f"of {len(held_out)} questions of skills {sum(before.right)} were answered right with them "
                f"and {sum(after.right)} by the new version"
            )
        if sum(after.right) <= sum(alone.right):
            faults.append(f"the version so far answers {sum(alone.right)} of them right without any skill")
        faults += elsewhere.judged(figures)
        return Verdict(tuple(faults), figures, before, after)

    def _elsewhere(self, engine: ArrowEngine) -> Elsewhere:
        """What was said to everyday questions."""
        asked = [QAPair(question, "") for question in everyday_questions()]
        found = Elsewhere(self._tolerances)
        for pair, said in zip(asked, SkillTest.of(self._engine, asked).said, strict=True):
            turn, answer = turn_ids(engine.tokenizer, pair.question, None), text_ids(engine.tokenizer, said)
            if len(answer):
                ids = np.concatenate([turn, answer])
                old, new = (
                    log_shares(one.core.logits(ids)[len(turn) - 1 : -1]) for one in (self._engine, engine)
                )
                found.add(old, new, answer)
        return found
