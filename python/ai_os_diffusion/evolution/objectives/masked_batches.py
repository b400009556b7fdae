"""Questions whose answers are masked, for a model that writes by diffusion."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.learning.learning_config import LearningConfig
from ai_os_diffusion.evolution.packed import Packed, Text
from ai_os_diffusion.evolution.qa_pairs import QAPair, QAPairs
from ai_os_diffusion.evolution.question_batches import FRAME_ROOM, MOST_POSITIONS, asked_in, drawn
from ai_os_diffusion.evolution.wordings import reworded
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.training.positions import PositionMaker, Positions
from ai_os_diffusion.training.settings import NoiseSettings
from ai_os_diffusion.training.text_encoder import SpecialIds
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["MaskedBatches"]

_ATTENTIONS = ("prefix", "causal")


class MaskedBatches:
    """What is asked in a step, and what of the answers is masked, are functions of the seed and the step.

    An answer stands as the engine writes it: behind the user's turn, its end token behind it, filled with
    NULL to whole blocks. Each block is masked several times, at times spread evenly.

    Args:
        tokenizer: of the model.
        settings: how the model writes by diffusion.
        end_id: ends an answer where `settings` names no token for it.
        window: most tokens of a text.
        pairs: what is learned.
        config: how.

    Attributes:
        per_epoch: steps in which every pair is asked once.

    Raises:
        TrainingError: a pair does not fit into a pass, or the model writes in a way that is not trained here.
    """

    def __init__(
        self,
        tokenizer: FastTokenizer,
        settings: DiffusionSettings,
        end_id: int,
        window: int,
        pairs: QAPairs,
        config: LearningConfig,
    ) -> None:
        if settings.attention not in _ATTENTIONS or settings.shift:
            how = "the token behind each state" if settings.shift else f"attention {settings.attention!r}"
            raise TrainingError(
                f"the model writes by diffusion with {how}, which is not trained here; expected a card with "
                f"attention {' or '.join(map(repr, _ATTENTIONS))} that predicts the positions themselves"
            )
        self._tokenizer, self._settings, self._pairs, self._config = tokenizer, settings, pairs, config
        null = -1 if settings.null_id is None else settings.null_id
        self._special = SpecialIds(settings.mask_id, null, settings.end_ids or (end_id,))
        # What is only read costs nothing: of causal attention there is no loss of the next token.
        self._maker = PositionMaker(self._special, NoiseSettings(causal_weight=0.0))
        self.per_epoch = -(-len(pairs) // config.batch_size)
        rng = drawn("0")
        for pair in pairs:
            made = self._document(pair.question, pair, rng)
            most, place = MOST_POSITIONS - FRAME_ROOM, max(made.positions) + FRAME_ROOM
            if len(made) > most or place >= window:
                raise TrainingError(
                    f"{pair.question[:60]!r} takes {len(made)} positions with masked copies of its answer, "
                    f"expected at most {most}, and {window} in a text; shorten it"
                )

    def parts(self, step: int, most: int = MOST_POSITIONS) -> Iterator[Packed]:
        """The passes of a step, of so many positions at most."""
        chosen, rng = asked_in(step, self._pairs, self._config)
        documents = (
            self._document(reworded(pair.question, self._config.dropped_words, rng), pair, rng)
            for pair in chosen
        )
        return _in_parts(documents, most)

    def looked_at(self) -> Iterator[Packed]:
        """The pairs as they were given, always masked alike: what says when to stop."""
        rng = drawn(f"{self._config.seed}/looked at")
        return _in_parts(self._document(pair.question, pair, rng) for pair in self._pairs)

    def anchored(self, texts: Mapping[int, Text]) -> tuple[Packed, NDArray[np.int64]]:
        """Texts of the base, each always masked alike, and the positions that are compared.

        The number of a text says where what is only read of it ends.
        """
        documents = []
        for number, text in texts.items():
            rng = drawn(f"{self._config.seed}/masked/{number}")
            ids, block = list(text.ids), self._settings.block_length
            begin = rng.randint(1, max(1, len(ids) - block))
            written = ids[begin : begin + block]
            documents.append(self._laid_out(ids[:begin], written, [True] * len(written), rng))
        packed = Packed.of_documents(documents)
        return packed, np.flatnonzero(packed.weights > 0)

    def _document(self, question: str, pair: QAPair, rng: random.Random) -> Positions:
        prompt = turn_ids(self._tokenizer, question, self._settings.chat_template).tolist()
        ids = [*text_ids(self._tokenizer, pair.answer).tolist(), self._special.end[0]]
        if self._special.null >= 0:
            ids += [self._special.null] * (-len(ids) % self._settings.block_length)
        return self._laid_out(prompt, ids, [True] * len(ids), rng)

    def _laid_out(
        self, prompt: list[int], ids: list[int], written: Sequence[bool], rng: random.Random
    ) -> Positions:
        made = self._maker.both if self._settings.attention == "causal" else self._maker.diffused
        return made(prompt, ids, list(written), self._settings.block_length, rng)


def _in_parts(documents: Iterable[Positions], most: int = MOST_POSITIONS) -> Iterator[Packed]:
    """Texts in as many passes as it takes."""
    waiting: list[Positions] = []
    for made in documents:
        if waiting and sum(map(len, waiting)) + len(made) > most:
            yield Packed.of_documents(waiting)
            waiting = []
        waiting.append(made)
    yield Packed.of_documents(waiting)
