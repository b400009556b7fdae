"""Which trainer makes a card, and where it computes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import Trainer
from ai_os_diffusion.evolution.learning.control_config import ControlConfig
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.question_batches import MOST_POSITIONS
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.training.processes import Processes
from ai_os_diffusion.utils.errors import TrainingError

if TYPE_CHECKING:
    from ai_os_diffusion.training.torch.skills.card_trainer import CardTrainer
    from ai_os_diffusion.training.torch.team import Team

__all__ = ["AnyTrainer", "TrainerChoice"]

AnyTrainer: TypeAlias = Union[Trainer, "CardTrainer"]

_TRAINERS = ("native", "torch")
_DEVICES = ("cpu", "cuda", "auto")

_SEVERAL = "WORLD_SIZE"
"""Where torchrun says how many processes it began."""

_POSITIONS_OF_A_GPU = 4096
"""Of a pass: a step in one."""


@dataclass(frozen=True)
class TrainerChoice:
    """What learns.

    Attributes:
        trainer: "native" or "torch".
        device: "cpu" or "cuda".
    """

    trainer: str = "native"
    device: str = "cpu"

    @classmethod
    def of(cls, trainer: str | None, device: str) -> TrainerChoice:
        """What is meant by a trainer, None for the device's own, and a device.

        Torch is imported only where it is asked for, or looked for a GPU.

        Raises:
            TrainingError: one of them is none, they do not go together, or torch is missing.
        """
        for what, value, known in (("trainer", trainer, (*_TRAINERS, None)), ("device", device, _DEVICES)):
            if value not in known:
                named = " or ".join(repr(one) for one in known if one is not None)
                raise TrainingError(f"{what} is {value!r}, expected {named}")
        has_torch = importlib.util.find_spec("torch") is not None
        if device == "auto":
            device = "cuda" if trainer != "native" and has_torch and _sees_gpu() else "cpu"
        trainer = trainer or ("native" if device == "cpu" else "torch")
        if trainer == "native" and device == "cuda":
            raise TrainingError(
                "the native trainer computes on the CPU; expected the trainer 'torch' for 'cuda'"
            )
        if trainer == "torch" and not has_torch:
            raise TrainingError("the trainer 'torch' needs torch: pip install 'ai-os-diffusion[train]'")
        if (several := os.environ.get(_SEVERAL, "1")) != "1":
            if trainer == "native":
                raise TrainingError(f"{several} processes were begun; expected one, or the trainer 'torch'")
            if importlib.util.find_spec("accelerate") is None:
                raise TrainingError("several processes need accelerate: pip install 'ai-os-diffusion[train]'")
        return cls(trainer, device)

    @property
    def processes(self) -> Processes:
        """Those that learn together: what torchrun began, else this one."""
        return self._team() or Processes()

    def _team(self) -> Team | None:
        if os.environ.get(_SEVERAL, "1") == "1" or self.trainer == "native":
            return None
        from ai_os_diffusion.training.torch.team import Team

        return Team(self.device)

    @property
    def positions(self) -> int:
        """Most of a pass."""
        return MOST_POSITIONS if self.device == "cpu" else _POSITIONS_OF_A_GPU

    @property
    def described(self) -> dict[str, str]:
        """What a learning that goes on has to have been begun with; of the default nothing."""
        return {} if self == TrainerChoice() else {"trainer": self.trainer, "device": self.device}

    def new_trainer(
        self,
        engine: ArrowEngine,
        metadata_json: str,
        parameters: Mapping[str, NDArray[np.float32]],
        config: LoRAConfig | ControlConfig,
        beneath: Card | None,
        num_threads: int,
    ) -> AnyTrainer:
        """A trainer of parameters on what an engine computes with.

        Args:
            engine: of the base.
            metadata_json: of its folder.
            parameters: where learning begins, by the names of a card.
            config: how.
            beneath: a card that belongs to what the model itself says.
            num_threads: 0 takes the cores there are.

        Raises:
            ModelLoadError: the model is of a family that cannot be trained.
            DeviceError: there is no such GPU.
        """
        settings: dict[str, Any] = {
            "scaling": config.scaling,
            "dropout": config.dropout,
            "num_threads": num_threads,
            "brain_floats": config.precision == "bfloat16",
        }
        about = None if beneath is None else beneath.description
        card = None
        if beneath is not None and about is not None:
            card = (beneath.native, about.scaling, about.row_ids)
        weights = engine.weights.native
        if self.trainer == "native":
            return Trainer(weights, metadata_json, dict(parameters), beneath=card, **settings)
        from ai_os_diffusion.training.torch.skills.card_trainer import CardTrainer

        return CardTrainer(weights, metadata_json, parameters, beneath=card, device=self.device, **settings)


def _sees_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
