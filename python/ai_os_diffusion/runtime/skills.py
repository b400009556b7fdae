"""What a runtime's decoder was taught."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from ai_os_diffusion.utils.logger import get_logger

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer
    from ai_os_diffusion.evolution import (
        Budget,
        Consolidation,
        EvolutionWorker,
        Feedback,
        Gate,
        Route,
        SkillRouter,
    )
    from ai_os_diffusion.runtime.background_learning import BackgroundLearning
    from ai_os_diffusion.runtime.runtime import Runtime

__all__ = ["Skills"]

_log = get_logger(__name__)


class Skills:
    """The skills of a runtime's decoder, chosen among by its encoder.

    Args:
        runtime: whose.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._routers: dict[str, SkillRouter] = {}
        self._found: object = None

    @property
    def router(self) -> SkillRouter:
        """Chooses among those for the next token that are here now, so what is learned meanwhile is used."""
        return self._router_of("ar")

    @property
    def diffusion_router(self) -> SkillRouter:
        """As `router`, among those with which the decoder writes by diffusion."""
        return self._router_of("diffusion")

    def _router_of(self, mode: str) -> SkillRouter:
        from ai_os_diffusion.evolution import SkillRouter, list_skills
        from ai_os_diffusion.models.cards import Base

        folder = self._runtime.config.skills_dir
        with self._lock:
            found = sorted(
                (path.name, about.st_ino, about.st_mtime_ns, about.st_size)
                for path in folder.glob("*.parquet")
                for about in [path.stat()]
            )
            if found != self._found:
                self._routers.clear()
                self._found = found
            if mode not in self._routers:
                base = Base.of_folder(self._runtime.decoder.folder).weights_sha256
                self._routers[mode] = SkillRouter(
                    self._runtime.encoder.encode_query,
                    [
                        card
                        for card in list_skills(folder)
                        if card.description.base.weights_sha256 == base
                        and card.description.mode in (None, mode)
                    ],
                )
            return self._routers[mode]

    def gate(self, mode: str = "ar") -> Gate:
        """Judges what is learned for a mode, beside the skills that are here."""
        from ai_os_diffusion.evolution import Gate

        decoder, encoder = self._runtime.decoder, self._runtime.encoder
        return Gate(decoder, encoder.encode_query, self._router_of(mode).cards, mode=mode)

    def using(self, question: str, mode: str = "ar") -> AbstractContextManager[Route | None]:
        """Let the decoder use the skill that a question belongs to, in a `with` block of this thread.

        Args:
            question: what is asked.
            mode: how the decoder writes: "ar" or "diffusion".

        Returns:
            Gives the block where the question went and why; None where nothing was learned yet.

        Raises:
            ModelNotFoundError: there are skills, and no encoder to choose among them.
        """
        if not self._has_any:
            return nullcontext()
        return self._router_of(mode).using(self._runtime.decoder, question)

    def correct(
        self,
        question: str,
        answer: str,
        *,
        said: str = "",
        uncertainty: float | None = None,
        wordings: Sequence[str] = (),
        skill: str | None = None,
    ) -> Feedback:
        """Take in the right answer to a question; the next round of learning learns it.

        Args:
            question: as it was asked.
            answer: the right one.
            said: what was answered instead.
            uncertainty: calibrated probability that this was wrong, where it is known.
            wordings: the same question in other words: one of them is not learned, and judges what is.
            skill: where it belongs; by default to the skill that the question would be routed to.

        Returns:
            What is on the disk now.

        Raises:
            TrainingError: a text is empty or too long, or the skill's name is none.
        """
        from ai_os_diffusion.evolution import Feedback, FeedbackQueue

        given = Feedback(question, answer, said, uncertainty, tuple(wordings), skill)
        return FeedbackQueue(self._runtime.config.skills_dir).append(given)

    def worker(
        self, *, epochs: int = 30, budget: Budget | None = None, device: str = "cpu"
    ) -> EvolutionWorker:
        """Learns what waits, on the runtime's decoder.

        Args:
            epochs: how often each question is asked.
            budget: how far it may go.
            device: where it learns: "cpu", "cuda" or "auto".
        """
        from ai_os_diffusion.evolution import EvolutionRouter, EvolutionWorker

        runtime = self._runtime
        return EvolutionWorker(
            runtime.decoder,
            runtime.encoder.encode_query,
            runtime.config.skills_dir,
            epochs=epochs,
            router=EvolutionRouter(budget=budget),
            device=device,
        )

    def consolidation(self, *, epochs: int = 10, device: str = "cpu") -> Consolidation:
        """Teaches the decoder itself what its skills know, and makes a version of it.

        Args:
            epochs: how often each question is asked.
            device: where it learns: "cpu", "cuda" or "auto".
        """
        from ai_os_diffusion.evolution import Consolidation
        from ai_os_diffusion.models.model_versions import ModelVersions

        runtime, config = self._runtime, self._runtime.config
        return Consolidation(
            runtime.decoder,
            runtime.encoder.encode_query,
            config.skills_dir,
            ModelVersions(config.models_dir),
            config.model.decoder,
            epochs=epochs,
            device=device,
        )

    @contextmanager
    def learning(self, *, epochs: int = 30, budget: Budget | None = None) -> Iterator[BackgroundLearning]:
        """Learn in the background while the `with` block runs: in one thread, of low priority.

        Nothing that is asked waits for it. At the end it breaks off, and the next learning goes on.

        Args:
            epochs: as for `worker`.
            budget: as for `worker`.
        """
        from ai_os_diffusion.runtime.background_learning import BackgroundLearning

        # The class is the runtime's own: its module imports this one.
        background = BackgroundLearning(
            type(self._runtime), self._runtime.config, epochs=epochs, budget=budget
        )
        background.start()
        try:
            yield background
        finally:
            background.stop()

    def consider(self, answer: Answer) -> None:
        """Log what an answer to a person lacks, if that is worth their time: the right answer, or a document.

        What is answered well enough leaves no trace. A log that cannot be written stops no answer.
        """
        from ai_os_diffusion.evolution import DecisionLog, EvolutionRouter, Level, Situation

        try:
            skill = self.router.route(answer.question).skill if self._has_any else None
            situation = Situation(
                answer.question,
                answer.text,
                None if answer.doubt is None else round(answer.doubt, 6),
                evidence=len(answer.citations),
                skill="" if skill is None else skill.name,
            )
            decision = EvolutionRouter().decision(situation)
            if decision.decision != Level.NOTHING.value:
                DecisionLog(self._runtime.config.skills_dir).append(decision)
        except OSError as error:
            _log.warning("what is uncertain cannot be logged: %s", error)

    @property
    def _has_any(self) -> bool:
        return any(self._runtime.config.skills_dir.glob("*.parquet"))
