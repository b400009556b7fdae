"""Text to vectors and text: weights, tokenizers, models, devices.

The names below are imported on first use, so that a verb which only lists models loads no arrays.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_os_diffusion.inference.arrow_engine import ArrowEngine
    from ai_os_diffusion.inference.constraints import Banned, FollowsSchema, Matches, Required
    from ai_os_diffusion.inference.denoising.diffusion_text import Diffusion, DiffusionStep, DiffusionStream
    from ai_os_diffusion.inference.device_utils import (
        get_best_device,
        get_cpu_features,
        get_device_info,
        is_rocm_platform,
        is_vulkan_available,
        print_device_info,
    )
    from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
    from ai_os_diffusion.inference.generation.generation_stream import Generation, GenerationStream
    from ai_os_diffusion.inference.inference_core import InferenceCore
    from ai_os_diffusion.inference.weight_loader import WeightLoader

__all__ = [
    "ArrowEngine",
    "Banned",
    "Diffusion",
    "DiffusionStep",
    "DiffusionStream",
    "FastTokenizer",
    "FollowsSchema",
    "Generation",
    "GenerationStream",
    "InferenceCore",
    "Matches",
    "Required",
    "WeightLoader",
    "get_best_device",
    "get_cpu_features",
    "get_device_info",
    "is_rocm_platform",
    "is_vulkan_available",
    "print_device_info",
]

_HOMES = {
    "ArrowEngine": "arrow_engine",
    "Banned": "constraints",
    "FollowsSchema": "constraints",
    "Matches": "constraints",
    "Required": "constraints",
    "Diffusion": "denoising.diffusion_text",
    "DiffusionStep": "denoising.diffusion_text",
    "DiffusionStream": "denoising.diffusion_text",
    "FastTokenizer": "fast_tokenizer",
    "Generation": "generation.generation_stream",
    "GenerationStream": "generation.generation_stream",
    "InferenceCore": "inference_core",
    "WeightLoader": "weight_loader",
    "get_best_device": "device_utils",
    "get_cpu_features": "device_utils",
    "get_device_info": "device_utils",
    "is_rocm_platform": "device_utils",
    "is_vulkan_available": "device_utils",
    "print_device_info": "device_utils",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
