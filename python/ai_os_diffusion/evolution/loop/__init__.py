"""What people correct becomes what the model can, in rounds that lose nothing and can be taken back."""

from __future__ import annotations

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
