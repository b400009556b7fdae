"""The CPU backend: weights as they are stored, run by the Rust crate `cpu_inference`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.attached_cards import AttachedCards, CardsInUse
from ai_os_diffusion.inference.ragged import Ragged
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.cpu_info import get_cpu_info
from ai_os_diffusion.utils.errors import CardError, WeightError

if TYPE_CHECKING:
    from ai_os_diffusion.models.cards import Card

__all__ = ["NativeCore"]


class NativeCore:
    """A network on the CPU; see `InferenceCore` for what the methods mean."""

    def __init__(
        self,
        weights: Any,
        config: ModelMetadata,
        num_threads: int,
        half_cache: bool,
        prefix_cache_bytes: int | None = None,
    ) -> None:
        self._half_cache, self._config = half_cache, config
        threads = num_threads if num_threads > 0 else get_cpu_info().usable_cores
        self.native = _native.Model(_native_weights(weights), config.to_json(), threads)
        if prefix_cache_bytes is not None:
            self.native.limit_prefixes(prefix_cache_bytes)
        self._cards = AttachedCards(partial(_adapter, self.native), config)

    @property
    def cards(self) -> AttachedCards[_native.Adapter]:
        """The cards in use."""
        return self._cards

    def embed(self, batch: Ragged, pooling: str, normalize: bool, skip: int = 0) -> NDArray[np.float32]:
        """float32[n, hidden]."""
        return self.native.embed(*batch, pooling, normalize, skip, self._cards.adapter)

    def hidden_states(self, batch: Ragged) -> NDArray[np.float32]:
        """float32[total, hidden]."""
        return self.native.hidden_states(*batch, self._cards.adapter)

    def head_scores(
        self, batch: Ragged, types: NDArray[np.uint8], head: str, mode: str | None = None
    ) -> NDArray[np.float32]:
        """float32[total, outputs]."""
        adapter = self._cards.in_use(mode).adapter
        if adapter is None:
            raise CardError(f"no card is attached, and a head {head!r} belongs to one")
        return self.native.head_scores(*batch, types, head, adapter)

    def class_scores(self, batch: Ragged, types: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32[n, labels]."""
        return self.native.class_scores(*batch, types, self._config.classifier_pooling, self._cards.adapter)

    def logits(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32[length, vocab]."""
        return self.native.logits(ids, self._cards.adapter)

    def token_nll(self, ids: NDArray[np.int32], first: int) -> NDArray[np.float32]:
        """float32[length - first]."""
        return self.native.token_nll(ids, first, self._cards.adapter)

    def prefix_stats(self) -> dict[str, int]:
        """What is kept of the beginnings of texts."""
        return self.native.prefix_stats()

    def session(self, max_tokens: int, cards: CardsInUse[_native.Adapter]) -> _native.Session:
        """An empty session."""
        return _native.Session(self.native, max_tokens, self._half_cache, cards.adapter)


def _adapter(model: _native.Model, cards: Sequence[tuple[Card, float]]) -> _native.Adapter:
    from ai_os_diffusion.models.cards.description import READER  # Only whoever uses cards pays for it.

    described = [(card, card.description, weight) for card, weight in cards]
    # A pass that reads uses this card for all its rows, and they are many. A mix changes with every card that
    # comes or goes, and may never be read with.
    reads_alone = [about.kind for _, about, _ in described] == [READER]
    return _native.Adapter(
        model,
        [
            (about.name, card.native, about.scaling, list(about.row_ids), list(about.heads), weight)
            for card, about, weight in described
        ],
        merge=reads_alone,
    )


def _native_weights(weights: Any) -> _native.WeightFile | dict[str, NDArray[np.float32]]:
    file = getattr(weights, "native", weights)
    if isinstance(file, _native.WeightFile):
        return file
    if not isinstance(weights, Mapping):
        raise WeightError(f"expected a mapping of names to arrays, got {type(weights).__name__}")
    return {str(name): np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
