"""Training of reader cards: an encoder learns to point at answers, to say that there is none, and to rank."""

from ai_os_diffusion.training.reader.recipe import ReaderRecipe
from ai_os_diffusion.training.reader.rows import Asked, Passage
from ai_os_diffusion.training.reader.run import pack_reader, train_reader

__all__ = ["Asked", "Passage", "ReaderRecipe", "pack_reader", "train_reader"]
