"""What people correct becomes what the model can, in rounds that lose nothing and can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.utils import imported_on_use

if TYPE_CHECKING:
    from ai_os_diffusion.evolution.loop.evolution_router import (
        Budget,
        Choice,
        Costs,
        EvolutionRouter,
        Level,
        Situation,
    )
    from ai_os_diffusion.evolution.loop.evolution_status import EvolutionStatus
    from ai_os_diffusion.evolution.loop.evolution_worker import EvolutionRound, EvolutionWorker
    from ai_os_diffusion.evolution.loop.feedback import Feedback, FeedbackQueue
    from ai_os_diffusion.evolution.loop.skill_versions import SkillVersions

__all__ = [
    "Budget",
    "Choice",
    "Costs",
    "EvolutionRound",
    "EvolutionRouter",
    "EvolutionStatus",
    "EvolutionWorker",
    "Feedback",
    "FeedbackQueue",
    "Level",
    "Situation",
    "SkillVersions",
]

__getattr__ = imported_on_use(
    {
        "Budget": "evolution.loop.evolution_router",
        "Choice": "evolution.loop.evolution_router",
        "Costs": "evolution.loop.evolution_router",
        "EvolutionRouter": "evolution.loop.evolution_router",
        "Level": "evolution.loop.evolution_router",
        "Situation": "evolution.loop.evolution_router",
        "EvolutionStatus": "evolution.loop.evolution_status",
        "EvolutionRound": "evolution.loop.evolution_worker",
        "EvolutionWorker": "evolution.loop.evolution_worker",
        "Feedback": "evolution.loop.feedback",
        "FeedbackQueue": "evolution.loop.feedback",
        "SkillVersions": "evolution.loop.skill_versions",
    }
)
