"""Diffusion of tokens as mathematics: schedules, samplers, and texts denoised by whatever predicts them."""

from ai_os_diffusion.diffusion.candidates import Candidates
from ai_os_diffusion.diffusion.canvas import Canvas
from ai_os_diffusion.diffusion.corruption import AbsorbingCorruption, Corruption, UniformCorruption
from ai_os_diffusion.diffusion.denoiser import Ask, Denoiser, DenoisingText, Predictions
from ai_os_diffusion.diffusion.diffusion_core import DenoisingStep, DiffusionCore, DiffusionRequest, Written
from ai_os_diffusion.diffusion.memory_conditioner import Condition, MemoryConditioner, Recalled
from ai_os_diffusion.diffusion.noise_scheduler import NoiseScheduler
from ai_os_diffusion.diffusion.uncertainty_estimator import Trajectory, UncertaintyEstimator
from ai_os_diffusion.utils.statistics.calibration import Calibration, Feature

__all__ = [
    "AbsorbingCorruption",
    "Ask",
    "Calibration",
    "Candidates",
    "Canvas",
    "Condition",
    "Corruption",
    "Denoiser",
    "DenoisingStep",
    "DenoisingText",
    "DiffusionCore",
    "DiffusionRequest",
    "Feature",
    "MemoryConditioner",
    "NoiseScheduler",
    "Predictions",
    "Recalled",
    "Trajectory",
    "UncertaintyEstimator",
    "UniformCorruption",
    "Written",
]
