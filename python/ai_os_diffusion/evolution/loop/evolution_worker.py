"""Rounds of learning what waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.judging.gate import Gate
from ai_os_diffusion.evolution.learning_state import LearningState
from ai_os_diffusion.evolution.loop.evolution_router import EvolutionRouter, Level, Situation
from ai_os_diffusion.evolution.loop.facts import Fact, waiting_facts
from ai_os_diffusion.evolution.loop.feedback import FeedbackQueue
from ai_os_diffusion.evolution.loop.lesson import Group, Lesson, grouped
from ai_os_diffusion.evolution.loop.remembered_embeddings import RememberedEmbeddings
from ai_os_diffusion.evolution.loop.skill_proof import SkillProof
from ai_os_diffusion.evolution.loop.skill_versions import LESSON, SkillVersions
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.lora_trainer import LoRATrainer
from ai_os_diffusion.evolution.qa_pairs import QAPair, QAPairs
from ai_os_diffusion.evolution.question_batches import QuestionBatches
from ai_os_diffusion.evolution.skill_router import Embed
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card
from ai_os_diffusion.utils.errors import DiffusionError, SkillsLockedError, TrainingError
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["EvolutionRound", "EvolutionWorker"]

_log = get_logger(__name__)

_NUMBER_BYTES = 16
"""Of a number in training: itself, its gradient and two moments, in single precision."""

_LOOKS_EVERY_S = 2.0

Tell = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class EvolutionRound:
    """What a round did.

    Attributes:
        decisions: about skills: kept, rejected, retired, refused.
        is_broken_off: it was stopped, or its time was up; the next one goes on.
    """

    decisions: tuple[Decision, ...]
    is_broken_off: bool


class EvolutionWorker:
    """Learns what came back from people, keeps what passes a gate, and retires what no longer helps.

    Args:
        engine: the decoder.
        embed: as for `SkillRouter`.
        folder: of the skills.
        config: of trainings; its seed is that of the first try.
        epochs: how often each question is asked.
        router: decides whether to learn.
        num_threads: of trainings; 0 takes the cores there are.
        trainer: of skills, as `LoRATrainer` takes it.
        device: where trainings compute, as `LoRATrainer` takes it.

    Example:
        >>> worker = EvolutionWorker(engine, encoder.encode, folder)  # doctest: +SKIP
        >>> [decision.decision for decision in worker.run().decisions]  # doctest: +SKIP
        ['kept']
    """

    def __init__(
        self,
        engine: ArrowEngine,
        embed: Embed,
        folder: str | Path,
        *,
        config: LoRAConfig | None = None,
        epochs: int = 30,
        router: EvolutionRouter | None = None,
        num_threads: int = 0,
        trainer: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._on: dict[str, Any] = {"num_threads": num_threads, "trainer": trainer, "device": device}
        self._engine, self._folder = engine, Path(folder)
        self._embed = embed = RememberedEmbeddings(embed)
        self._config, self._epochs = config or LoRAConfig(), epochs
        self._router = router or EvolutionRouter()
        self._versions = SkillVersions(self._folder)
        self._log, self._queue = DecisionLog(self._folder), FeedbackQueue(self._folder)
        self._base = Base.of_folder(engine.folder)
        self._trainer = self._trainer_of(self._config)
        self._skills = SkillProof(engine, embed, self._versions, self._router.budget.tries)

    def run(
        self, tell: Tell = lambda _line: None, is_stopped: Callable[[], bool] = lambda: False
    ) -> EvolutionRound:
        """Learn what waits.

        What an earlier round began and did not end goes on where it was last saved.

        Args:
            tell: is told `skill`, and of its training what `LoRATrainer.train_qa` tells.
            is_stopped: is asked after every step whether to break off.

        Raises:
            SkillsLockedError: another process is learning.
        """
        seconds = self._router.budget.seconds
        end = None if seconds is None else time.monotonic() + seconds
        stopped = False

        def stop() -> bool:
            nonlocal stopped
            stopped = stopped or is_stopped() or (end is not None and time.monotonic() >= end)
            return stopped

        with self._versions.locked():
            lesson = self._begun()
            made = [] if lesson is not None else self._skills.retire_idle(stop)
            handled: set[str] = set()
            while True:
                # A round takes a step at least, so that rounds that are too short end too.
                lesson = lesson or (None if made and stop() else self._planned(handled, made))
                if lesson is None:
                    return EvolutionRound(tuple(made), stopped)
                decision = self._learned(lesson, tell, stop)
                if decision is None:
                    return EvolutionRound(tuple(made), is_broken_off=True)
                made.append(decision)
                handled.update(lesson.feedback)
                lesson = None

    def watch(
        self,
        wait: Callable[[float], bool],
        tell: Tell = lambda _line: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[EvolutionRound]:
        """Learn what waits and what comes in, round by round.

        Args:
            wait: waits for so many seconds; whether to end.
            tell: as for `run`.
            is_stopped: as for `run`.

        Yields:
            What each round did.
        """
        seen: object = None
        while not is_stopped():
            found = self._queue.state
            if found != seen:
                try:
                    done = self.run(tell, is_stopped)
                except SkillsLockedError as error:
                    _log.warning("%s", error)
                else:
                    # What was rejected may have another try, and what was broken off goes on.
                    seen = None if done.decisions or done.is_broken_off else found
                    yield done
            if is_stopped() or wait(_LOOKS_EVERY_S):
                return

    def _trainer_of(self, config: LoRAConfig) -> LoRATrainer:
        trainer = LoRATrainer(self._engine, config=config, folder=self._versions.work, **self._on)
        trainer.anchors, trainer.paraphrases = self._folder / ".anchor", self._folder / ".paraphrases"
        return trainer

    def _begun(self) -> Lesson | None:
        """What was broken off, if it still makes sense."""
        path = self._versions.work / LESSON
        lesson = Lesson.load(path)
        if lesson is not None and self._is_timely(lesson):
            return lesson
        path.unlink(missing_ok=True)
        for state in self._versions.work.glob(".*.learning"):
            state.unlink()
        return None

    def _is_timely(self, lesson: Lesson) -> bool:
        return lesson.base == self._base.weights_sha256 and lesson.version == self._versions.next(
            lesson.skill
        )

    def _planned(self, handled: set[str], made: list[Decision]) -> Lesson | None:
        """The first thing that is worth learning; what is not, is logged."""
        decisions = self._log.read()
        own, stale = self._skills.of_base()
        facts = []
        for fact in waiting_facts(self._queue.read(), decisions):
            if handled.intersection(fact.feedback):
                continue
            problem = self._problem(fact)
            if problem is None:
                facts.append(fact)
            else:
                refused = Decision("", "refused", (problem,), inputs={"feedback": list(fact.feedback)})
                self._log.append(refused)
                made.append(refused)
        tries = self._router.budget.tries
        for group in grouped(facts, own, stale, self._folder, self._embed, tries):
            if handled.intersection(group.feedback):
                continue
            version = self._versions.next(group.skill)
            tries = _tries(group, decisions)
            lesson = group.lesson(
                self._embed, version, self._base.weights_sha256, self._epochs, self._config.seed + tries
            )
            situation = self._situation(group, lesson, tries, own, decisions)
            decision = self._router.decision(situation)
            if not _is_logged(decision, decisions):
                self._log.append(decision)
            if decision.decision == Level.SKILL.value:
                return lesson
        return None

    def _problem(self, fact: Fact) -> str | None:
        """Why a fact cannot be learned at all."""
        pairs = QAPairs(tuple(QAPair(question, fact.answer) for question in fact.questions))
        window = self._engine.metadata.max_position_embeddings
        try:
            QuestionBatches(self._engine.tokenizer, 0, window, pairs, self._config)
        except DiffusionError as error:
            return str(error)
        return None

    def _situation(
        self, group: Group, lesson: Lesson, tries: int, own: Sequence[Card], decisions: Sequence[Decision]
    ) -> Situation:
        judged = [one for one in decisions if one.decision in ("kept", "rejected")]
        speeds = [one.figures["seconds_a_question"] for one in judged if "seconds_a_question" in one.figures]
        others = [card for card in own if card.name != group.skill]
        first = group.facts[0] if group.facts else None
        new = self._trainer.parameters
        return Situation(
            query=first.questions[0] if first else lesson.pairs[0].question,
            answer=first.said[-1] if first and first.said else "",
            uncertainty=first.uncertainty if first else None,
            feedback=first.answer if first else None,
            skill=group.skill,
            waiting=tuple(fact.wrong for fact in group.facts),
            anew=group.is_stale,
            pairs=len(lesson.pairs),
            seconds=round(speeds[-1] * len(lesson.pairs) * lesson.epochs, 1) if speeds else None,
            parameters=new + sum(_numbers(card) for card in others),
            memory_bytes=_NUMBER_BYTES * new,
            kept=sum(one.decision == "kept" for one in judged),
            rejected=sum(one.decision == "rejected" for one in judged),
            tries=tries,
        )

    def _learned(self, lesson: Lesson, tell: Tell, stop: Callable[[], bool]) -> Decision | None:
        """Learn and judge; None where it was broken off."""
        lesson.save(self._versions.work / LESSON)
        candidate = self._versions.candidate(lesson.skill)
        trainer = self._trainer_of(replace(self._config, seed=lesson.seed))
        pairs = QAPairs(lesson.pairs)
        taken: list[dict[str, Any]] = []
        is_broken_off = False

        def told(line: dict[str, Any]) -> None:
            if "step" in line:
                # The first and the latest.
                taken[1:] = [line]
            tell({"skill": lesson.skill, **line})

        def stopped() -> bool:
            nonlocal is_broken_off
            is_broken_off = stop()
            return is_broken_off

        card = _finished(candidate, pairs, lesson)
        if card is None:
            candidate.unlink(missing_ok=True)
            _sound_state(self._versions.work / f".{lesson.skill}.learning")
            try:
                card = trainer.train_qa(
                    pairs,
                    lesson.skill,
                    epochs=lesson.epochs,
                    held_out=lesson.held_out,
                    embed=self._embed,
                    tell=told,
                    is_stopped=stopped,
                )
            except TrainingError as error:
                if is_broken_off:
                    return None
                return self._settled(lesson, "rejected", (str(error),), {})
        own, _ = self._skills.of_base()
        verdict = Gate(self._engine, self._embed, own, lesson.seed).judge(card, lesson.held_out)
        figures = {**verdict.figures, **_speed(taken, len(pairs), lesson.epochs)}
        decision = "kept" if verdict.is_kept else "rejected"
        return self._settled(lesson, decision, verdict.faults, figures)

    def _settled(
        self, lesson: Lesson, decision: str, reasons: Sequence[str], figures: dict[str, float]
    ) -> Decision:
        told = {
            "version": float(lesson.version),
            "pairs": float(len(lesson.pairs)),
            "facts": float(lesson.facts),
            "held_out_given": float(lesson.given),
            "held_out_made": float(lesson.facts - lesson.given),
        }
        inputs = {"feedback": list(lesson.feedback), "lesson": lesson.id}
        made = Decision(lesson.skill, decision, tuple(reasons), {**figures, **told}, inputs=inputs)
        if decision == "kept" and self._is_timely(lesson):
            return self._versions.install(lesson.skill, lesson.version, made)
        if decision == "kept":
            # Somebody removed or rolled it back in between: what it was learned for waits on.
            reason = "the skill was changed while it was learned"
            made = replace(made, decision="dropped", reasons=(reason,))
        return self._versions.discard(lesson.skill, lesson.version, made)


def _tries(group: Group, decisions: Sequence[Decision]) -> int:
    if group.facts:
        return min(fact.tries for fact in group.facts)
    return sum(
        one.decision == "rejected" and set(group.feedback).issubset(one.inputs.get("feedback", ()))
        for one in decisions
    )


def _is_logged(decision: Decision, decisions: Sequence[Decision]) -> bool:
    """Whether just this was decided before: nothing has changed since."""
    inputs = json.dumps(decision.inputs, sort_keys=True)
    return any(
        one.skill == decision.skill and json.dumps(one.inputs, sort_keys=True) == inputs for one in decisions
    )


def _finished(path: Path, pairs: QAPairs, lesson: Lesson) -> Card | None:
    """A card that was learned and not judged yet."""
    try:
        card = Card(path)
    except DiffusionError:
        return None
    about = card.description
    made = (about.name, about.data_sha256, about.base.weights_sha256, about.config.get("seed"))
    return card if made == (lesson.skill, pairs.digest, lesson.base, lesson.seed) else None


def _sound_state(path: Path) -> None:
    """Have no state of a learning that cannot be gone on from."""
    try:
        LearningState(path, {}).load()
    except TrainingError as error:
        _log.warning("%s", error)
        path.unlink()


def _speed(taken: Sequence[dict[str, Any]], pairs: int, epochs: int) -> dict[str, float]:
    """What a question took, of the steps that were taken now."""
    if len(taken) < 2:
        return {}
    first, last = taken
    seconds = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    return {"seconds_a_question": seconds * last["steps"] / (pairs * epochs)}


def _numbers(card: Card) -> int:
    total = 0
    for shape in card.shapes.values():
        size = 1
        for axis in shape:
            size *= axis
        total += size
    return total
