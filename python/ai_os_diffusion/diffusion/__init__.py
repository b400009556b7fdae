"""Diffusion of tokens as mathematics: schedules, samplers, and texts denoised by whatever predicts them."""

from ai_os_diffusion.diffusion.canvas import Canvas
from ai_os_diffusion.diffusion.corruption import AbsorbingCorruption, Corruption, UniformCorruption
from ai_os_diffusion.diffusion.denoiser import Ask, Denoiser, DenoisingText, Predictions
from ai_os_diffusion.diffusion.diffusion_core import DenoisingStep, DiffusionCore, DiffusionRequest, Written
from ai_os_diffusion.diffusion.noise_scheduler import NoiseScheduler

__all__ = [
    "AbsorbingCorruption",
    "Ask",
    "Canvas",
    "Corruption",
    "Denoiser",
    "DenoisingStep",
    "DenoisingText",
    "DiffusionCore",
    "DiffusionRequest",
    "NoiseScheduler",
    "Predictions",
    "UniformCorruption",
    "Written",
]
