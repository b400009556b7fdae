"""Skills that are learned from questions and answers, or pairs of texts: cards, and what trains them."""

from __future__ import annotations

from ai_os_diffusion.evolution.consolidation.consolidation import Consolidation
from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.judging.gate import Gate, Verdict
from ai_os_diffusion.evolution.judging.skill_test import SkillTest
from ai_os_diffusion.evolution.learning.control_config import ControlConfig
from ai_os_diffusion.evolution.learning.lora_linear import LoRALinear
from ai_os_diffusion.evolution.loop import (
    Budget,
    Choice,
    Costs,
    EvolutionRound,
    EvolutionRouter,
    EvolutionStatus,
    EvolutionWorker,
    Feedback,
    FeedbackQueue,
    Level,
    Situation,
    SkillVersions,
)
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.lora_trainer import LoRATrainer
from ai_os_diffusion.evolution.objectives.text_pairs import TextPairs
from ai_os_diffusion.evolution.qa_pairs import QAPair, QAPairs
from ai_os_diffusion.evolution.skill_router import Route, SkillRouter
from ai_os_diffusion.evolution.skills import find_skill, list_skills, remove_skill
from ai_os_diffusion.models.cards import Card as LoRACard

__all__ = [
    "Budget",
    "Choice",
    "Consolidation",
    "ControlConfig",
    "Costs",
    "Decision",
    "DecisionLog",
    "EvolutionRound",
    "EvolutionRouter",
    "EvolutionStatus",
    "EvolutionWorker",
    "Feedback",
    "FeedbackQueue",
    "Gate",
    "Level",
    "LoRACard",
    "LoRAConfig",
    "LoRALinear",
    "LoRATrainer",
    "QAPair",
    "QAPairs",
    "Route",
    "Situation",
    "SkillRouter",
    "SkillTest",
    "SkillVersions",
    "TextPairs",
    "Verdict",
    "find_skill",
    "list_skills",
    "remove_skill",
]
