"""Whether a new version of a model is used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.gate import Verdict
from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.evolution.skill_router import SkillRouter, everyday_questions
from ai_os_diffusion.evolution.skill_test import SkillTest
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids

__all__ = ["ModelGate"]

_MOST_LOST = 0.01
"""Share of the skills' questions that may be lost."""

_MOST_RISEN = 0.01
"""Part by which the perplexity of what the model says elsewhere may rise."""

_MOST_DIVERGED = 0.05
"""Nats by which, in the mean over its tokens, what is said elsewhere may be told apart from before."""

Numbers = NDArray[np.float64]


class ModelGate:
    """Lets a version pass that knows by itself what skills knew, and is elsewhere what it was.

    Args:
        engine: the version so far.
        router: of its skills.
    """

    def __init__(self, engine: ArrowEngine, router: SkillRouter) -> None:
        self._engine, self._router = engine, router

    def judge(self, engine: ArrowEngine, held_out: Sequence[QAPair]) -> Verdict:
        """Judge a version.

        Args:
            engine: it, without skills.
            held_out: wordings of what all skills were taught, which none learned from.
        """
        alone, after = SkillTest.of(self._engine, held_out), SkillTest.of(engine, held_out)
        before = SkillTest.routed(self._engine, self._router, held_out)
        lost = (sum(before.right) - sum(after.right)) / len(held_out)
        rise, divergence = self._elsewhere(engine)
        figures = {
            "right_alone": alone.exact_match,
            "right_before": before.exact_match,
            "right_after": after.exact_match,
            "perplexity_elsewhere": rise,
            "divergence_elsewhere": divergence,
        }
        faults = []
        if lost > _MOST_LOST:
            faults.append(
                f"of {len(held_out)} questions of skills {sum(before.right)} were answered right with them "
                f"and {sum(after.right)} by the new version"
            )
        if sum(after.right) <= sum(alone.right):
            faults.append(f"the version so far answers {sum(alone.right)} of them right without any skill")
        if not rise <= 1 + _MOST_RISEN:
            faults.append(f"what is said to everyday questions has {rise:.3f} times its perplexity")
        if not divergence <= _MOST_DIVERGED:
            faults.append(
                f"what is said to everyday questions diverges by {divergence:.3f} nats a token, expected at "
                f"most {_MOST_DIVERGED}"
            )
        return Verdict(tuple(faults), figures, before, after)

    def _elsewhere(self, engine: ArrowEngine) -> tuple[float, float]:
        """By how much the perplexity of what was said to everyday questions rises, and KL(before ‖ after)."""
        asked = [QAPair(question, "") for question in everyday_questions()]
        nats, divergence, tokens = 0.0, 0.0, 0
        for pair, said in zip(asked, SkillTest.of(self._engine, asked).said, strict=True):
            turn, answer = turn_ids(engine.tokenizer, pair.question, None), text_ids(engine.tokenizer, said)
            if not len(answer):
                continue
            ids = np.concatenate([turn, answer])
            old, new = (
                _log_shares(one.core.logits(ids)[len(turn) - 1 : -1]) for one in (self._engine, engine)
            )
            rows = np.arange(len(answer))
            nats += float((old[rows, answer] - new[rows, answer]).sum())
            divergence += float((np.exp(old) * (old - new)).sum())
            tokens += len(answer)
        tokens = max(tokens, 1)
        return math.exp(min(nats / tokens, 700.0)), divergence / tokens


def _log_shares(logits: NDArray[np.float32]) -> Numbers:
    """float64[rows, vocabulary]: logarithms of probabilities."""
    numbers = logits.astype(np.float64)
    numbers -= numbers.max(axis=1, keepdims=True)
    return np.asarray(numbers - np.log(np.exp(numbers).sum(axis=1, keepdims=True)))
