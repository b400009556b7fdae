"""The torch backend: the readable reference, on any device torch knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion.inference.attached_cards import AttachedCards, CardsInUse
from ai_os_diffusion.inference.ragged import Ragged
from ai_os_diffusion.inference.torch.adapter import NO_CARDS, Adapter, Cards
from ai_os_diffusion.inference.torch.batcher import Batcher
from ai_os_diffusion.inference.torch.choice import not_finite
from ai_os_diffusion.inference.torch.device import Device
from ai_os_diffusion.inference.torch.forward_pass import Pass
from ai_os_diffusion.inference.torch.kv_cache import PAGE_TOKENS, KvCache
from ai_os_diffusion.inference.torch.network import Decoder, DeviceWeights, build_network
from ai_os_diffusion.inference.torch.pooling import check_pooling, pool
from ai_os_diffusion.inference.torch.prefix_cache import PrefixCache
from ai_os_diffusion.inference.torch.session import TorchSession
from ai_os_diffusion.models.family import families, family_of
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import CardError, DeviceError, InferenceError, ShapeError

__all__ = ["Texts", "TorchCore"]

Tensor = Any
Ids = NDArray[np.int32]
Vectors = NDArray[np.float32]

_PREFIX_BYTES = 256 << 20
"""What is kept of the beginnings of texts unless one says otherwise."""

_FIRST_BYTES = 1 << 30
"""What keys and values take at first where steps are captured: graphs hold addresses, growing moves them."""

_ALIGNED = 8

_HEAD_ROWS = 512
"""Rows whose logits exist at a time."""


class Texts:
    """What the sessions of a decoder share.

    Args:
        network: a decoder.
        config: its metadata.
        device: where it is.
        cache_dtype: of keys and values.
        prefix_bytes: most that is kept of the beginnings of texts.
    """

    def __init__(
        self, network: Decoder, config: ModelMetadata, device: Device, cache_dtype: Any, prefix_bytes: int
    ) -> None:
        self.network, self.device, self._vocab_size = network, device, config.vocab_size
        self.window = config.max_position_embeddings
        self.cache = KvCache(
            config.num_layers,
            config.num_kv_heads,
            config.head_dim,
            device=device.torch,
            dtype=cache_dtype,
            first_bytes=_FIRST_BYTES if device.captures else 0,
            room=device.room,
        )
        self.prefixes = PrefixCache(self.cache, prefix_bytes)
        most_pages = -(-config.max_position_embeddings // PAGE_TOKENS)
        self.batcher = Batcher(network, self.cache, device, most_pages)

    def promise(self, pages: int) -> None:
        """Make sure that a text can take so many pages.

        Raises:
            DeviceError: the device has no room for them.
        """
        with self.device.running(f"keys and values of {pages * PAGE_TOKENS} tokens"):
            self.cache.promise(pages, len(self.prefixes))

    def check_ids(self, ids: Ids) -> None:
        """Refuse ids outside the vocabulary.

        Raises:
            InferenceError: one is.
        """
        wrong = np.flatnonzero((ids < 0) | (ids >= self._vocab_size))
        if len(wrong):
            at = int(wrong[0])
            raise InferenceError(
                f"token id {ids[at]} at position {at} is outside the vocabulary of {self._vocab_size}"
            )


class TorchCore:
    """A network on a torch device; see `InferenceCore` for what the methods and arguments mean."""

    def __init__(
        self,
        weights: Any,
        config: ModelMetadata,
        device: str,
        *,
        dtype: str | None = None,
        half_cache: bool = False,
        prefix_cache_bytes: int | None = None,
    ) -> None:
        self.config, self.device = config, Device(device, dtype)
        on_device = DeviceWeights(weights, self.device.torch, self.device.dtype)
        self.device.require(on_device.count, "the weights")
        with self.device.running("the weights"):
            self.network = build_network(on_device, config)
        self._texts: Texts | None = None
        if isinstance(self.network, Decoder):
            is_wide = self.device.dtype == torch.float32
            cache_dtype = torch.float16 if half_cache and is_wide else self.device.dtype
            kept = _PREFIX_BYTES if prefix_cache_bytes is None else prefix_cache_bytes
            self._texts = Texts(self.network, config, self.device, cache_dtype, kept)
        sites = self.network.sites
        self._cards: AttachedCards[Adapter] = AttachedCards(lambda cards: Adapter(sites, cards), config)
        # Of a token: its state, what the widest layer makes of it, and what attention reads, twice over.
        width = 8 * config.hidden_size + 4 * config.intermediate_size
        self._row_bytes = 2 * width * self.device.dtype.itemsize

    @property
    def cards(self) -> AttachedCards[Adapter]:
        """The cards in use."""
        return self._cards

    def embed(self, batch: Ragged, pooling: str, normalize: bool, skip: int = 0) -> Vectors:
        """float32[n, hidden]."""
        check_pooling(pooling)

        def pooled(states: Tensor, asked: Pass) -> Vectors:
            vectors = pool(states, asked.counts, pooling, skip)
            if normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            return np.asarray(vectors.cpu().numpy())

        out = np.zeros((len(batch[1]) - 1, self.config.hidden_size), np.float32)
        for rows, vectors in self._passes(batch, pooled):
            out[rows] = vectors
        return out

    def hidden_states(self, batch: Ragged) -> Vectors:
        """float32[total, hidden]."""
        return self._of_tokens(batch, self.config.hidden_size, lambda states, _: states.float())

    def head_scores(
        self, batch: Ragged, types: NDArray[np.uint8], head: str, mode: str | None = None
    ) -> Vectors:
        """float32[total, outputs]."""
        adapter = self._cards.in_use(mode).adapter
        if adapter is None:
            raise CardError(f"no card is attached, and a head {head!r} belongs to one")
        weight, bias = adapter.head(head)
        self._check_types(batch, types)
        return self._of_tokens(
            batch,
            len(bias),
            lambda states, _: torch.nn.functional.linear(states.float(), weight, bias),
            types,
            adapter,
        )

    def class_scores(self, batch: Ragged, types: NDArray[np.uint8]) -> Vectors:
        """float32[n, labels]."""
        self._check_types(batch, types)
        classifier = getattr(self.network, "classifier", None)
        assert classifier is not None

        def scored(states: Tensor, asked: Pass) -> Vectors:
            pooled = pool(states, asked.counts, self.config.classifier_pooling, 0)[:, None]
            scores = classifier(pooled.to(self.device.dtype), asked.cards)[:, 0]
            return np.asarray(scores.float().cpu().numpy())

        out = np.zeros((len(batch[1]) - 1, self.config.num_labels), np.float32)
        for rows, scores in self._passes(batch, scored, types):
            out[rows] = scores
        return out

    def logits(self, ids: Ids) -> Vectors:
        """float32[length, vocab]."""
        self._need_texts("logits")
        batch = (ids, np.array([0, len(ids)]))
        return self._of_tokens(batch, self.config.vocab_size, self._scores)

    def token_nll(self, ids: Ids, first: int) -> Vectors:
        """float32[length - first]."""
        self._need_texts("token_nll")
        if not 1 <= first < len(ids):
            raise InferenceError(f"token_nll needs at least {max(first, 1) + 1} tokens, got {len(ids)}")

        def losses(states: Tensor, asked: Pass) -> Vectors:
            out, targets = [], asked.ids[0, first : len(ids)]
            for begin in range(0, len(targets), _HEAD_ROWS):
                part = targets[begin : begin + _HEAD_ROWS]
                rows = states[:, first - 1 + begin : first - 1 + begin + len(part)]
                scores = self._scores(rows, asked)[0]
                out.append(torch.nn.functional.cross_entropy(scores, part, reduction="none"))
            return np.asarray(torch.cat(out).cpu().numpy())

        ((_, found),) = self._passes((ids, np.array([0, len(ids)])), losses)
        if not np.isfinite(found).all():
            raise not_finite()
        return found

    def session(self, max_tokens: int, cards: CardsInUse[Adapter]) -> TorchSession:
        """An empty session."""
        texts = self._need_texts("generation")
        window = self.config.max_position_embeddings
        if max_tokens > window:
            raise InferenceError(
                f"{max_tokens} tokens do not fit the model's window of {window}; shorten the text"
            )
        return TorchSession(texts, max_tokens, cards.adapter)

    def prefix_stats(self) -> dict[str, int]:
        """What is kept of the beginnings of texts."""
        if self._texts is None:
            return dict.fromkeys(("size_bytes", "limit_bytes", "pages", "reused_tokens", "dropped_pages"), 0)
        return self._texts.prefixes.stats()

    def _scores(self, states: Tensor, asked: Pass) -> Tensor:
        assert isinstance(self.network, Decoder)
        return self.network.head(states, asked.cards)

    def _of_tokens(
        self,
        batch: Ragged,
        width: int,
        made: Callable[[Tensor, Pass], Tensor],
        types: NDArray[np.uint8] | None = None,
        adapter: Adapter | None = None,
    ) -> Vectors:
        """What `made` makes of the states of all tokens, float32[total, width]."""

        def of_states(states: Tensor, asked: Pass) -> Vectors:
            # A part at a time: of all tokens of a pass logits may not fit the device.
            parts = states.split(max(1, _HEAD_ROWS // len(states)), 1)
            return np.concatenate([made(part, asked).cpu().numpy() for part in parts], 1)

        ids, offsets = batch
        out = np.zeros((len(ids), width), np.float32)
        for rows, found in self._passes(batch, of_states, types, adapter):
            for row, index in enumerate(rows):
                begin, end = offsets[index], offsets[index + 1]
                out[begin:end] = found[row, : end - begin]
        return out

    def _passes(
        self,
        batch: Ragged,
        made: Callable[[Tensor, Pass], Vectors],
        types: NDArray[np.uint8] | None = None,
        adapter: Adapter | None = None,
    ) -> Iterator[tuple[list[int], Vectors]]:
        """What `made` makes of the states of passes over all texts, and which texts each read.

        Texts of like length go together. They use `adapter`, or what is attached.
        """
        adapter = adapter or self._cards.adapter
        lengths = np.diff(batch[1])
        self._check(batch, lengths)
        order = [int(index) for index in np.argsort(-lengths, kind="stable")]
        most = self.device.rows(self._row_bytes) if order else 0
        while order:
            count = max(1, most // int(lengths[order[0]]))
            rows, rest = order[:count], order[count:]
            try:
                with self.device.running(f"{len(rows)} texts of up to {lengths[rows[0]]} tokens"):
                    asked = self._padded(batch, rows, types, adapter)
                    found = made(self.network(asked), asked)
            except DeviceError:
                if len(rows) == 1:
                    raise
                # Others take memory too, and nobody tells how much until it is asked for.
                most //= 2
                continue
            yield rows, found
            order = rest

    def _padded(
        self, batch: Ragged, rows: list[int], types: NDArray[np.uint8] | None, adapter: Adapter | None
    ) -> Pass:
        """The pass over some texts of a batch, the longest first."""
        ids, offsets = batch
        lengths = np.diff(offsets)[rows]
        # Masks of other widths are copied in every layer; behind the window there is no position.
        width = min(-(-int(lengths[0]) // _ALIGNED) * _ALIGNED, self.config.max_position_embeddings)
        padded = np.zeros((2, len(rows), width), np.int64)
        for row, (index, length) in enumerate(zip(rows, lengths, strict=True)):
            begin, end = offsets[index], offsets[index + 1]
            padded[0, row, :length] = ids[begin:end]
            if types is not None and len(types):
                padded[1, row, :length] = types[begin:end]
        on_device = torch.from_numpy(padded).to(self.device.torch)
        counts = torch.from_numpy(lengths.astype(np.int64)).to(self.device.torch)
        return Pass(
            on_device[0],
            torch.zeros_like(counts),
            counts,
            self.config.is_decoder,
            types=on_device[1],
            cards=NO_CARDS if adapter is None else Cards.of([adapter] * len(rows)),
        )

    def _check(self, batch: Ragged, lengths: NDArray[np.int64]) -> None:
        ids, _ = batch
        window, vocab = self.config.max_position_embeddings, self.config.vocab_size
        if len(lengths) and lengths.min() < 1:
            raise ShapeError(f"sequence {int(lengths.argmin())} has no tokens; expected at least one token")
        if len(lengths) and lengths.max() > window:
            raise InferenceError(
                f"{int(lengths.max())} tokens do not fit the model's window of {window}; shorten the text"
            )
        wrong = np.flatnonzero((ids < 0) | (ids >= vocab))
        if len(wrong):
            at = int(wrong[0])
            raise InferenceError(f"token id {ids[at]} at position {at} is outside the vocabulary of {vocab}")

    def _check_types(self, batch: Ragged, types: NDArray[np.uint8]) -> None:
        has_types = family_of(self.config.architecture).types is not None
        known = self.config.type_vocab_size if has_types else 1
        if len(types) and len(types) != len(batch[0]):
            raise ShapeError(f"pass: {len(types)} token types for {len(batch[0])} ids")
        if len(types) and int(types.max()) >= known:
            raise ShapeError(f"pass: token type {int(types.max())}; the model has {known}")

    def _need_texts(self, operation: str) -> Texts:
        if self._texts is None:
            decoders = ", ".join(name for name, family in families().items() if family.is_decoder)
            raise InferenceError(
                f"{operation} needs a decoder ({decoders}); "
                f'this model is of architecture "{self.config.architecture}"'
            )
        return self._texts
