"""Encoders that learn which texts belong together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.learning.learning_config import LearningConfig
from ai_os_diffusion.evolution.learning.trainer_choice import AnyTrainer
from ai_os_diffusion.evolution.learning_state import LearningState, Saved
from ai_os_diffusion.evolution.objectives.beginnings import mean_loss, rate_of
from ai_os_diffusion.evolution.objectives.text_pairs import TextPairs
from ai_os_diffusion.evolution.question_batches import drawn
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["ContrastiveLearning", "contrastive_loss"]

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]

_POSITIONS = 1024
"""Of a pass: what it keeps for the way back is 0.1 MB each for MiniLM."""

_SCALE = 20.0
"""Of cosines: the inverse of the temperature, as sentence-transformers has it."""

_POOLINGS = ("mean", "cls")
_LEAST_PAIRS = 2


class ContrastiveLearning:
    """A training of an encoder from its first step to its last.

    All texts of a step are told apart from each other, however many passes they take: their vectors are
    computed first, and what the loss changes by with them is taken back a pass at a time (GradCache,
    arXiv:2101.06983).

    Args:
        engine: the encoder; texts get its prompts, and are cut where it cuts them.
        trainer: of the card, at its beginning.
        config: how.
        pairs: what is learned.
        epochs: how often each pair is shown.

    Attributes:
        steps: of the whole training.
        records: `tokens` and `loss` of the steps so far.

    Raises:
        TrainingError: the encoder makes vectors in a way that is not trained here.
    """

    def __init__(
        self,
        engine: ArrowEngine,
        trainer: AnyTrainer,
        config: LearningConfig,
        pairs: TextPairs,
        epochs: int,
    ) -> None:
        metadata = engine.metadata
        if metadata.pooling not in _POOLINGS or not metadata.include_prompt:
            how = f"pooling {metadata.pooling!r}" if metadata.include_prompt else "its prompt left out"
            raise TrainingError(
                f"{engine.folder.name} makes vectors with {how}, which is not trained here; expected pooling "
                f"{' or '.join(map(repr, _POOLINGS))} of whole texts"
            )
        if config.batch_size < _LEAST_PAIRS:
            raise TrainingError(
                f"batch_size is {config.batch_size}, expected at least {_LEAST_PAIRS}: the texts of a step "
                "are told apart from each other"
            )
        self._width = metadata.hidden_size
        self._is_mean = metadata.pooling == "mean"
        self._config, self._pairs = config, pairs
        self._per_epoch = -(-len(pairs) // config.batch_size)
        self.steps = epochs * self._per_epoch
        prompts = [metadata.prompts.get(use, "") for use in ("query", "document")]
        self._ids = []
        for prompt, texts in zip(prompts, zip(*pairs, strict=True), strict=True):
            whole = [prompt + text for text in texts]
            ids, starts = engine.tokenizer.encode_ragged(whole, metadata.max_seq_length)
            self._ids.append(np.split(ids, starts[1:-1]))
        self._trainer = trainer
        self.records: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken."""
        return self._trainer.steps >= self.steps

    @property
    def recent_loss(self) -> float:
        """Of the last epoch."""
        return mean_loss(self.records, self._per_epoch)

    def take_up(self, state: LearningState) -> None:
        """Go on where a state is."""
        found = state.load()
        if found is not None:
            self._trainer.restore(found.steps, dict(found.parameters))
            self.records = found.records

    def save(self, state: LearningState) -> None:
        """Write how far it is."""
        state.save(Saved(self._trainer.steps, self._trainer.state(), self.records, looks={}))

    def trained(self) -> dict[str, Floats]:
        """The factors."""
        return self._trainer.parameters()

    def step(self) -> dict[str, Any]:
        """Take a step; what it tells."""
        number = self._trainer.steps
        chosen = self._drawn(number)
        texts = [ids[index] for ids in self._ids for index in chosen]
        passes = list(_passes(texts))
        vectors = np.empty((len(texts), self._width), np.float32)
        row = 0
        for members in passes:
            batch, lengths = _batch([texts[member] for member in members])
            states = self._trainer.states(batch, first_row=row, seed=number)
            vectors[members] = self._pooled(states, lengths)
            row += len(states)
        half = len(chosen)
        positives = [self._pairs.pairs[index][1] for index in chosen]
        loss, of_queries, of_positives = contrastive_loss(vectors[:half], vectors[half:], positives)
        gradients = np.concatenate([of_queries, of_positives])
        row = 0
        for members in passes:
            batch, lengths = _batch([texts[member] for member in members])
            spread = self._spread(gradients[members], lengths)
            self._trainer.accumulate_states(batch, spread, first_row=row, seed=number)
            row += len(spread)
        self._trainer.step(rate_of(self._config, number, self.steps))
        tokens = row + (self.records[-1]["tokens"] if self.records else 0)
        self.records.append({"tokens": tokens, "loss": loss})
        return {
            "step": number + 1,
            "steps": self.steps,
            "epoch": number // self._per_epoch + 1,
            "loss": loss,
            "tokens": tokens,
            "seconds": time.monotonic() - self._begun,
        }

    def _drawn(self, step: int) -> list[int]:
        """The pairs of a step: a function of the seed and the step."""
        epoch, place = divmod(step, self._per_epoch)
        order = list(range(len(self._pairs)))
        drawn(f"{self._config.seed}/order/{epoch}").shuffle(order)
        # Steps of equal size: a last one of a single pair would have nothing to tell apart.
        begin, end = (len(order) * at // self._per_epoch for at in (place, place + 1))
        return order[begin:end]

    def _pooled(self, states: Floats, lengths: NDArray[np.int64]) -> Floats:
        """float32[texts, width] of float32[positions, width]."""
        starts = np.cumsum(lengths) - lengths
        if not self._is_mean:
            return np.asarray(states[starts])
        sums = np.add.reduceat(states, starts, axis=0)
        return np.asarray(sums / lengths[:, None], np.float32)

    def _spread(self, gradients: Numbers, lengths: NDArray[np.int64]) -> Floats:
        """What the loss changes by with each state, from what it does with each vector."""
        if self._is_mean:
            return np.repeat(gradients / lengths[:, None], lengths, axis=0).astype(np.float32)
        spread = np.zeros((int(lengths.sum()), gradients.shape[1]), np.float32)
        spread[np.cumsum(lengths) - lengths] = gradients
        return spread


def contrastive_loss(
    queries: Floats, positives: Floats, texts: Sequence[str], scale: float = _SCALE
) -> tuple[float, Numbers, Numbers]:
    """How surely each query finds its own text among all of a step (InfoNCE, arXiv:1807.03748).

    Args:
        queries: float32[n, width].
        positives: float32[n, width].
        texts: of the positives: equal ones are no negatives of each other.
        scale: of the cosines.

    Returns:
        The mean cross-entropy in nats, and what it changes by with queries and positives, float64[n, width].
    """
    lengths = [np.linalg.norm(one.astype(np.float64), axis=1, keepdims=True) for one in (queries, positives)]
    q, p = queries / lengths[0], positives / lengths[1]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    own = np.array([numbers[text] for text in texts])
    n = len(own)
    logits = scale * (q @ p.T)
    logits[(own[:, None] == own) & ~np.eye(n, dtype=bool)] = -np.inf
    most = logits.max(axis=1, keepdims=True)
    shares = np.exp(logits - most)
    sums = shares.sum(axis=1, keepdims=True)
    loss = float((most[:, 0] + np.log(sums[:, 0]) - np.diagonal(logits)).mean())
    change = (shares / sums - np.eye(n)) * (scale / n)
    of_q, of_p = change @ p, change.T @ q
    # Along a vector its direction does not change.
    of_queries = (of_q - q * (of_q * q).sum(axis=1, keepdims=True)) / lengths[0]
    of_positives = (of_p - p * (of_p * p).sum(axis=1, keepdims=True)) / lengths[1]
    return loss, of_queries, of_positives


def _passes(texts: Sequence[NDArray[np.int32]]) -> Iterator[list[int]]:
    """Texts by number, in as many passes as it takes."""
    members: list[int] = []
    length = 0
    for number, ids in enumerate(texts):
        if members and length + len(ids) > _POSITIONS:
            yield members
            members, length = [], 0
        members.append(number)
        length += len(ids)
    yield members


def _batch(texts: Sequence[NDArray[np.int32]]) -> tuple[Any, NDArray[np.int64]]:
    """Texts as positions that see all of their text, and how long each is."""
    lengths = np.array([len(ids) for ids in texts], np.int64)
    ids = np.concatenate(texts).astype(np.int32)
    places = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    document = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    nothing = np.zeros_like(ids)
    return (ids, places, nothing, nothing, document), lengths
