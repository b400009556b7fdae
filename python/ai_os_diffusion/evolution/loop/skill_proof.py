"""Whether skills still help."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.judging.gate import Gate, held_out_of, learned_of
from ai_os_diffusion.evolution.loop.lesson import stale_id
from ai_os_diffusion.evolution.loop.skill_versions import SkillVersions
from ai_os_diffusion.evolution.skill_router import Embed
from ai_os_diffusion.evolution.skills import list_skills
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card
from ai_os_diffusion.models.cards.description import DIFFUSION

__all__ = ["SkillProof"]


class SkillProof:
    """Asks skills that once helped whether they do, whenever what is beside them has changed.

    Args:
        engine: the decoder.
        embed: as for `SkillRouter`.
        versions: of the skills.
        tries: after which a skill of a base that is gone is not learned anew.
    """

    def __init__(self, engine: ArrowEngine, embed: Embed, versions: SkillVersions, tries: int) -> None:
        self._engine, self._embed, self._versions, self._tries = engine, embed, versions, tries
        self._base = Base.of_folder(engine.folder)
        self._log = DecisionLog(versions.folder)

    def of_base(self) -> tuple[list[Card], list[Card]]:
        """Skills of the decoder for the next token, and those of one of its name that is gone."""
        own, stale = [], []
        for card in list_skills(self._versions.folder):
            # Rounds ask token by token: there a skill for writing by diffusion helps nobody.
            if card.description.mode == DIFFUSION:
                continue
            base = card.description.base
            if base.weights_sha256 == self._base.weights_sha256:
                own.append(card)
            elif base.name == self._base.name:
                stale.append(card)
        return own, stale

    def retire_idle(self, is_stopped: Callable[[], bool]) -> list[Decision]:
        """Put aside what gains none of its own held-out questions, asked as they are routed.

        Skills that no gate ever let pass are left alone: somebody wanted them as they are.

        Args:
            is_stopped: is asked before every skill whether to break off.

        Returns:
            What was retired. That a skill helps is logged too, and not asked again before something changes.
        """
        own, stale = self.of_base()
        decisions = self._log.read()
        made = [
            self._retired(card, ("the base it was learned on is gone, and it cannot be learned anew",))
            for card in stale
            if not learned_of(card) or self._tried(card, decisions) >= self._tries
        ]
        helped = {one.skill for one in decisions if one.decision in ("kept", "proven")}
        for card in list(own):
            among = self._digest(own)
            if card.name not in helped or not held_out_of(card) or _is_proven(card.name, among, decisions):
                continue
            if is_stopped():
                break
            verdict = Gate(self._engine, self._embed, own).prove(card)
            found = Decision(card.name, "proven", verdict.faults, verdict.figures, inputs={"among": among})
            if verdict.is_kept:
                self._log.append(found)
            else:
                made.append(self._retired(card, found.reasons, found))
                own.remove(card)
        return made

    def _retired(self, card: Card, reasons: Sequence[str], found: Decision | None = None) -> Decision:
        figures, inputs = (found.figures, found.inputs) if found else ({}, {})
        return self._versions.retire(
            card.name, Decision(card.name, "retired", tuple(reasons), figures, inputs=inputs)
        )

    def _tried(self, card: Card, decisions: Sequence[Decision]) -> int:
        return sum(
            one.decision == "rejected" and stale_id(card) in one.inputs.get("feedback", ())
            for one in decisions
        )

    def _digest(self, cards: Sequence[Card]) -> str:
        """Tells what skills are asked beside each other."""
        told = sorted(
            [card.name, card.description.data_sha256, card.description.created_at] for card in cards
        )
        return hashlib.sha256(json.dumps([self._base.weights_sha256, told]).encode()).hexdigest()[:16]


def _is_proven(skill: str, among: str, decisions: Sequence[Decision]) -> bool:
    return any(
        one.skill == skill and one.decision == "proven" and one.inputs.get("among") == among
        for one in decisions
    )
