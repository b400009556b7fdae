"""Learning beside answering."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ai_os_diffusion.utils.errors import DiffusionError
from ai_os_diffusion.utils.logger import get_logger

if TYPE_CHECKING:
    from ai_os_diffusion.config import Config
    from ai_os_diffusion.evolution import Budget, Decision
    from ai_os_diffusion.runtime.runtime import Runtime

__all__ = ["BackgroundLearning", "lower_priority"]

_log = get_logger(__name__)

_LOOKS_EVERY_S = 2.0
_NICE = 10


class BackgroundLearning:
    """A thread that learns whatever comes in, with engines of its own, until it is stopped.

    Its engines map the same files as those that answer, so weights are in memory once. It computes in its one
    thread, which the system runs after others.

    Args:
        opened: opens a runtime.
        config: its settings.
        epochs: how often each question is asked.
        budget: how far a round may go.

    Attributes:
        decisions: what was decided about skills so far.
        error: what ended the thread, if something did.
    """

    def __init__(
        self,
        opened: Callable[[Config], Runtime],
        config: Config,
        *,
        epochs: int = 30,
        budget: Budget | None = None,
    ) -> None:
        self._open = opened
        self._config = replace(config, performance=replace(config.performance, num_threads=1))
        self._epochs, self._budget = epochs, budget
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
        self.decisions: list[Decision] = []
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is being taken, with what was learned so far saved."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        from ai_os_diffusion.evolution import EvolutionRouter, EvolutionWorker, SkillVersions

        lower_priority()
        versions = SkillVersions(self._config.skills_dir)
        try:
            # No engine is loaded before there is something to learn.
            while not versions.has_work:
                if self._stop.wait(_LOOKS_EVERY_S):
                    return
            with self._open(self._config) as runtime:
                worker = EvolutionWorker(
                    runtime.decoder,
                    runtime.encoder.encode_query,
                    self._config.skills_dir,
                    epochs=self._epochs,
                    router=EvolutionRouter(budget=self._budget),
                    num_threads=1,
                )
                for done in worker.watch(self._stop.wait, is_stopped=self._stop.is_set):
                    self.decisions += done.decisions
        except (DiffusionError, OSError) as error:
            self.error = error
            _log.warning("learning in the background ended: %s", error)


def lower_priority() -> None:
    """Have the system run this thread, and those it starts, after others, where a thread has a priority."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
