"""The questions of each step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.learning.learning_config import LearningConfig
from ai_os_diffusion.evolution.packed import Packed, Text
from ai_os_diffusion.evolution.qa_pairs import QAPair, QAPairs
from ai_os_diffusion.evolution.wordings import reworded
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["FRAME_ROOM", "MOST_POSITIONS", "QuestionBatches", "asked_in", "drawn", "end_of", "in_parts"]

MOST_POSITIONS = 512
"""Of a pass: what it keeps for the way back is 0.5 MB each for SmolLM2, 0.7 in single precision."""

FRAME_ROOM = 16
"""For the longest frame of a question."""

_EVERY = 2


class QuestionBatches:
    """What is asked in a step is a function of the seed and the step alone.

    Args:
        tokenizer: of the model.
        end_id: ends an answer.
        window: most tokens of a text.
        pairs: what is learned.
        config: how.

    Attributes:
        per_epoch: steps in which every pair is asked once.

    Raises:
        TrainingError: a pair does not fit into a pass.
    """

    def __init__(
        self, tokenizer: FastTokenizer, end_id: int, window: int, pairs: QAPairs, config: LearningConfig
    ) -> None:
        self._tokenizer, self._end_id, self._pairs, self._config = tokenizer, end_id, pairs, config
        self.per_epoch = -(-len(pairs) // config.batch_size)
        most = min(window, MOST_POSITIONS)
        for pair in pairs:
            length = len(self.text(pair.question, pair).ids)
            if length + FRAME_ROOM > most:
                raise TrainingError(
                    f"{pair.question[:60]!r} takes {length} tokens with its answer, expected at most "
                    f"{most - FRAME_ROOM}; shorten it"
                )

    def __getitem__(self, step: int) -> list[Text]:
        chosen, rng = asked_in(step, self._pairs, self._config)
        return [self.text(reworded(pair.question, self._config.dropped_words, rng), pair) for pair in chosen]

    def parts(self, step: int, most: int = MOST_POSITIONS) -> Iterator[Packed]:
        """The passes of a step, of so many positions at most."""
        return in_parts(self[step], most)

    def looked_at(self) -> Iterator[Packed]:
        """The pairs as they were given: what says when to stop."""
        return in_parts([self.text(pair.question, pair) for pair in self._pairs])

    def anchored(self, texts: Mapping[int, Text]) -> tuple[Packed, NDArray[np.int64]]:
        """Texts of the base, and the positions that are compared: of a text always the same.

        Each second one: neighbours tell nearly the same, and the head costs as much as a third of the
        network.
        """
        packed = Packed.of(list(texts.values()))
        return packed, np.flatnonzero((packed.weights > 0) & (packed.positions % _EVERY == 0))

    def text(self, question: str, pair: QAPair) -> Text:
        """A question as the model is asked, with its answer."""
        prompt = turn_ids(self._tokenizer, question, None).tolist()
        answer = text_ids(self._tokenizer, pair.answer).tolist()
        return Text((*prompt, *answer, self._end_id), len(prompt))


def asked_in(step: int, pairs: QAPairs, config: LearningConfig) -> tuple[list[QAPair], random.Random]:
    """The pairs of a step, in the order of its epoch, each in one wording, and what draws their words."""
    size = config.batch_size
    epoch, place = divmod(step, -(-len(pairs) // size))
    order = list(pairs)
    drawn(f"{config.seed}/order/{epoch}").shuffle(order)
    wordings = drawn(f"{config.seed}/wordings/{step}")
    chosen = [pairs.in_one_wording(pair, wordings) for pair in order[place * size : (place + 1) * size]]
    return chosen, drawn(f"{config.seed}/words/{step}")


def in_parts(texts: Sequence[Text], most: int = MOST_POSITIONS) -> Iterator[Packed]:
    """Texts in as many passes as it takes."""
    packed = Packed.of(texts)
    if len(packed) <= most or len(texts) == 1:
        yield packed
        return
    half = len(texts) // 2
    yield from in_parts(texts[:half], most)
    yield from in_parts(texts[half:], most)


def drawn(seed: str) -> random.Random:
    """What draws the same for the same text, in every process."""
    return random.Random(seed)  # noqa: S311  # no secret


def end_of(engine: ArrowEngine) -> int:
    """The token that ends an answer: the tokenizer's own where it is one that ends the model's texts.

    Raises:
        TrainingError: there is none.
    """
    own = engine.tokenizer.eos_id
    ends = engine.metadata.eos_token_ids or (() if own is None else (own,))
    if not ends:
        raise TrainingError(f"{engine.folder.name} names no token that ends a text")
    return own if own is not None and own in ends else ends[0]
