"""Training of diffusion cards: a decoder learns to write by diffusion, from examples of the user's."""

from ai_os_diffusion.training.example import Example, Piece
from ai_os_diffusion.training.example_source import ExampleSource
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.training.run import TrainingResult, train_diffusion

__all__ = ["Example", "ExampleSource", "Piece", "Recipe", "TrainingResult", "train_diffusion"]
