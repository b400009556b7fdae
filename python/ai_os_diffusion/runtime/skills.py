"""What a runtime's decoder was taught."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ai_os_diffusion.utils.lazy_property import lazy_property

if TYPE_CHECKING:
    from ai_os_diffusion.evolution import Gate, Route, SkillRouter
    from ai_os_diffusion.runtime.runtime import Runtime

__all__ = ["Skills"]


class Skills:
    """The skills of a runtime's decoder, chosen among by its encoder.

    Args:
        runtime: whose.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @lazy_property
    def router(self) -> SkillRouter:
        """Chooses among those for the next token that are here when it is first asked for."""
        return self._router("ar")

    @lazy_property
    def diffusion_router(self) -> SkillRouter:
        """As `router`, among those with which the decoder writes by diffusion."""
        return self._router("diffusion")

    def _router(self, mode: str) -> SkillRouter:
        from ai_os_diffusion.evolution import SkillRouter, list_skills
        from ai_os_diffusion.models.cards import Base

        base = Base.of_folder(self._runtime.decoder.folder).weights_sha256
        learned = list_skills(self._runtime.config.skills_dir)
        return SkillRouter(
            self._runtime.encoder.encode_query,
            [
                card
                for card in learned
                if card.description.base.weights_sha256 == base and card.description.mode in (None, mode)
            ],
        )

    def _of_mode(self, mode: str) -> SkillRouter:
        return self.diffusion_router if mode == "diffusion" else self.router

    def gate(self, mode: str = "ar") -> Gate:
        """Judges what is learned for a mode, beside the skills that are here."""
        from ai_os_diffusion.evolution import Gate

        decoder, encoder = self._runtime.decoder, self._runtime.encoder
        return Gate(decoder, encoder.encode_query, self._of_mode(mode).cards, mode=mode)

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
        if not any(self._runtime.config.skills_dir.glob("*.parquet")):
            return nullcontext()
        return self._of_mode(mode).using(self._runtime.decoder, question)
