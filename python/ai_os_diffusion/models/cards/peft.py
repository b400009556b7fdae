"""Low-rank adapters as the `peft` library keeps them: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ai_os_diffusion.models.cards.card import Card
from ai_os_diffusion.models.cards.names import MAGNITUDE, ROW_SCALE, A, layer_of, scaled_layer_of
from ai_os_diffusion.models.convert.safetensors import write_safetensors
from ai_os_diffusion.models.convert.settings.settings_check import (
    Applied,
    Harmless,
    Only,
    Settings,
    check_settings,
)
from ai_os_diffusion.models.untrusted_values import read_values
from ai_os_diffusion.utils.errors import CardError
from ai_os_diffusion.utils.files.atomic_folder import replacing_folder

__all__ = [
    "CONFIG_FILE",
    "PREFIX",
    "WEIGHTS_FILE",
    "AdapterSettings",
    "export_peft",
    "read_adapter_settings",
]

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"

PREFIX = "base_model.model."
"""What `peft` puts before the names of the base's layers."""

_TRAINING = "it acts in training only"
_RECORD = "it is a record of how the adapter came about, and its tensors tell"

SETTINGS = Settings(
    (
        Applied("r lora_alpha use_rslora use_dora rank_pattern alpha_pattern modules_to_save task_type"),
        Only("peft_type", "the layers would compute something else", ("LORA",)),
        Harmless(
            """
            lora_dropout loftq_config eva_config corda_config lora_ga_config velora_config inference_mode
            runtime_config qalora_group_size megatron_core ensure_weight_tying
            """,
            _TRAINING,
        ),
        Harmless(
            """
            base_model_name_or_path revision auto_mapping peft_version target_modules
            exclude_modules layers_to_transform layers_pattern target_parameters
            """,
            _RECORD,
        ),
        Only(
            "init_lora_weights",
            "the weights of the base would be others, less what the factors began as",
            (True, False, "gaussian", "eva", "orthogonal"),
        ),
        Only("use_qalora", "inputs would be averaged in groups", (False,)),
        Only("bias", "biases of the base would be replaced", ("none",)),
        Only("lora_bias", "the second factor would have a bias", (False,)),
        Only("fan_in_fan_out", "the weights would be transposed", (False,)),
        Only("trainable_token_indices", "rows of the embedding would be replaced", ([],)),
        Only("layer_replication", "layers would be computed several times", ([],)),
        Only("alora_invocation_tokens", "it would act behind certain tokens alone", ([],)),
        Only("arrow_config", "several adapters would be mixed by their inputs", ()),
        Only("use_bdlora", "the factors would be cut into blocks", ()),
        Only("kasa_config", "the factors would have singular values between them", ()),
        Only("monteclora_config", "the first factor would be a sum of samples", ()),
        Only("megatron_config", "it would be spread over machines", ()),
    ),
    is_closed=True,
)
"""Settings of `LoraConfig`, as of peft 0.21."""


@dataclass(frozen=True)
class AdapterSettings:
    """What an adapter says of its factors, and what it brings beside them.

    Attributes:
        rank: of the layers that no pattern names.
        alpha: of these.
        is_stabilised: a layer's scaling is its alpha over the square root of its rank, not over the rank.
        alphas: those of layers that end with a name.
        saved: modules that the adapter brings whole, by the end of their names.
        task: what it is for, as `peft` calls it, or nothing.
        is_scaled: rows have magnitudes of their own (DoRA), in every layer.
    """

    rank: int
    alpha: float
    is_stabilised: bool
    alphas: Mapping[str, float]
    saved: tuple[str, ...] = ()
    task: str | None = None
    is_scaled: bool = False

    @property
    def scaling(self) -> float:
        """That of the layers that no pattern names."""
        return self._scaling(self.alpha, self.rank)

    def of(self, layer: str, rank: int) -> float:
        """That of a layer, whose factors have a rank."""
        named = (alpha for name, alpha in self.alphas.items() if f".{layer}".endswith(f".{name}"))
        return self._scaling(next(named, self.alpha), rank)

    def brings(self, module: str) -> bool:
        """Whether the adapter brings a module of that name whole."""
        return any(f".{module}".endswith(f".{name}") for name in self.saved)

    def _scaling(self, alpha: float, rank: int) -> float:
        return alpha / (math.sqrt(rank) if self.is_stabilised else rank)


def read_adapter_settings(folder: Path) -> AdapterSettings:
    """Read adapter_config.json.

    Raises:
        ModelLoadError: a setting changes results and is not applied here; it is named.
        CardError: it is damaged.
    """
    values = read_values(folder / CONFIG_FILE, error=CardError)
    check_settings(values, SETTINGS)
    for key in ("rank_pattern", "alpha_pattern"):
        for name in values.section(key):
            if not re.fullmatch(r"[\w.]+", name):
                raise values.section(key).refusal(name, "the names of layers, no other patterns")
    patterns = values.section("alpha_pattern")
    return AdapterSettings(
        rank=values.integer("r", low=1),
        alpha=values.number("lora_alpha", 8.0),
        is_stabilised=values.flag("use_rslora", False),
        alphas={name: patterns.number(name) for name in patterns},
        saved=tuple(values.texts("modules_to_save")),
        task=values.maybe_text("task_type"),
        is_scaled=values.flag("use_dora", False),
    )


def export_peft(card: Card, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a card's factors and magnitudes as an adapter that `peft` loads onto the base, in float32.

    Args:
        card: what is written.
        folder: appears whole or not at all.
        overwrite: replace an existing adapter.

    Raises:
        CardError: the card has more than those, which an adapter cannot hold, or magnitudes of some layers
            alone; or the folder is in use.
    """
    target = Path(folder)
    if more := [name for name in card if layer_of(name) is None and scaled_layer_of(name) is None]:
        raise CardError(
            f"{card.path}: has {len(more)} tensors beside its factors, such as {more[0]!r}, which an adapter "
            "of peft cannot hold"
        )
    if target.exists() and not (overwrite and (not any(target.iterdir()) or (target / CONFIG_FILE).exists())):
        raise CardError(f"{target}: exists already; give another, or overwrite=True for an adapter")
    layers, rank = card.layers, card.description.rank
    scaled = [layer for layer in layers if layer + MAGNITUDE in card.shapes]
    if len(scaled) not in (0, len(layers)):
        raise CardError(
            f"{card.path}: has magnitudes of {len(scaled)} of its {len(layers)} layers, and an adapter of "
            "peft has those of all or of none"
        )
    ranks = {layer: card.shapes[layer + A][0] for layer in layers}
    scaling = card.description.scaling
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": card.description.base.name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scaling * rank,
        "use_rslora": False,
        "use_dora": bool(scaled),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": layers,
        # A layer of a smaller rank is scaled as the others are.
        "rank_pattern": {layer: found for layer, found in ranks.items() if found != rank},
        "alpha_pattern": {layer: scaling * found for layer, found in ranks.items() if found != rank},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(target, replace=overwrite) as draft:
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        there = (name for name in card if not name.endswith(ROW_SCALE))
        write_safetensors(
            draft / WEIGHTS_FILE, {PREFIX + name: np.ascontiguousarray(card[name]) for name in there}
        )
    return target
