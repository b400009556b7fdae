"""Cards on disk: what they are, and how they get there from what others wrote.

A card changes what a model does without touching it: low-rank factors for its linear layers, side blocks
beside its stream, tensors that take the place of its own, rows of its embedding, and heads beside its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.utils import imported_on_use

if TYPE_CHECKING:
    from ai_os_diffusion.models.cards.card import Card
    from ai_os_diffusion.models.cards.conversion import convert_card
    from ai_os_diffusion.models.cards.description import Base, CardDescription
    from ai_os_diffusion.models.cards.peft import export_peft

__all__ = ["Base", "Card", "CardDescription", "convert_card", "export_peft"]

__getattr__ = imported_on_use(
    {
        "Card": "models.cards.card",
        "convert_card": "models.cards.conversion",
        "Base": "models.cards.description",
        "CardDescription": "models.cards.description",
        "export_peft": "models.cards.peft",
    }
)
