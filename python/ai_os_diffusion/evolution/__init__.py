"""Skills that are learned from questions and answers, or pairs of texts: cards, and what trains them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.utils import imported_on_use

if TYPE_CHECKING:
    from ai_os_diffusion.evolution.consolidation.consolidation import Consolidation
    from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
    from ai_os_diffusion.evolution.judging.gate import Gate, Verdict
    from ai_os_diffusion.evolution.judging.skill_test import SkillTest
    from ai_os_diffusion.evolution.judging.tolerances import Tolerances
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
    "Tolerances",
    "Verdict",
    "find_skill",
    "list_skills",
    "remove_skill",
]

__getattr__ = imported_on_use(
    {
        "Consolidation": "evolution.consolidation.consolidation",
        "Decision": "evolution.decision_log",
        "DecisionLog": "evolution.decision_log",
        "Gate": "evolution.judging.gate",
        "Verdict": "evolution.judging.gate",
        "ControlConfig": "evolution.learning.control_config",
        "LoRALinear": "evolution.learning.lora_linear",
        "Budget": "evolution.loop",
        "Choice": "evolution.loop",
        "Costs": "evolution.loop",
        "EvolutionRound": "evolution.loop",
        "EvolutionRouter": "evolution.loop",
        "EvolutionStatus": "evolution.loop",
        "EvolutionWorker": "evolution.loop",
        "Feedback": "evolution.loop",
        "FeedbackQueue": "evolution.loop",
        "Level": "evolution.loop",
        "Situation": "evolution.loop",
        "SkillVersions": "evolution.loop",
        "LoRAConfig": "evolution.lora_config",
        "LoRATrainer": "evolution.lora_trainer",
        "TextPairs": "evolution.objectives.text_pairs",
        "QAPair": "evolution.qa_pairs",
        "QAPairs": "evolution.qa_pairs",
        "Route": "evolution.skill_router",
        "SkillRouter": "evolution.skill_router",
        "SkillTest": "evolution.judging.skill_test",
        "Tolerances": "evolution.judging.tolerances",
        "find_skill": "evolution.skills",
        "list_skills": "evolution.skills",
        "remove_skill": "evolution.skills",
        "LoRACard": "models.cards:Card",
    }
)
