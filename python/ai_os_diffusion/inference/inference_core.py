"""Ids to hidden states, embeddings and logits, on whichever backend serves the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.attached_cards import AttachedCards, CardsInUse
from ai_os_diffusion.inference.native_core import NativeCore
from ai_os_diffusion.inference.ragged import Ragged, as_ids, as_ragged
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import ConfigurationError, DeviceError, InferenceError

__all__ = ["Backend", "GenerationSession", "InferenceCore"]

Vectors = NDArray[np.float32]


class GenerationSession(Protocol):
    """One text that grows, with the keys and values of its tokens. Belongs to one caller."""

    @property
    def max_tokens(self) -> int:
        """Most tokens it can hold."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Bytes of its keys and values."""
        ...

    def prefill(self, ids: NDArray[np.int32], causal: bool = True) -> None:
        """Read tokens behind those it has; unless causal, all of them see each other."""
        ...

    def predict(
        self,
        ids: NDArray[np.int32],
        rows: NDArray[np.int64],
        sampler: _native.Sampler | None = None,
        *,
        top_k: int = 0,
        forbidden: Sequence[int] | None = None,
        logits: bool = False,
    ) -> _native._Predictions:
        """Rows of a block that sees itself and the tokens read so far, and leaves nothing behind.

        Returns:
            Id, its probability and the entropy of each row, [n]; the most probable ids and their
            probabilities, [n, top_k]; logits, [n, vocab], if asked for.
        """
        ...

    @staticmethod
    def predict_all(
        sessions: Sequence[Any],
        ids: Sequence[NDArray[np.int32]],
        rows: Sequence[NDArray[np.int64]],
        samplers: Sequence[_native.Sampler],
        *,
        top_k: int = 0,
        forbidden: Sequence[int] | None = None,
        allowed: Sequence[Sequence[tuple[int, Sequence[int]]]] | None = None,
        guidance: tuple[float, Sequence[Any], Sequence[NDArray[np.int32]]] | None = None,
        places: Sequence[tuple[NDArray[np.int32], int] | None] | None = None,
        prefix: bool = False,
    ) -> Sequence[_native._Predictions]:
        """As `predict`, of a block for each session; see `_native.Session.predict_all`."""
        ...

    def push(self, id: int) -> None:
        """Read one token."""
        ...

    def sample(self, sampler: _native.Sampler) -> tuple[int, float]:
        """Choose the next token, without reading it: its id and log-probability."""
        ...

    def generate(self, count: int, sampler: _native.Sampler | None = None) -> NDArray[np.int32]:
        """Choose and read `count` tokens, whatever they are; greedily without a sampler."""
        ...

    def truncate(self, length: int) -> None:
        """Forget the tokens from `length` on."""
        ...

    def logits(self) -> Vectors:
        """float32[vocab] of the token after the last; empty if there is none."""
        ...

    def __len__(self) -> int: ...


class Backend(Protocol):
    """A loaded network."""

    @property
    def cards(self) -> AttachedCards[Any]:
        """The cards in use."""
        ...

    def embed(self, batch: Ragged, pooling: str, normalize: bool, skip: int = 0) -> Vectors:
        """float32[n, hidden]; the first `skip` tokens of each sequence are not pooled."""
        ...

    def hidden_states(self, batch: Ragged) -> Vectors:
        """float32[total, hidden], after a decoder's last norm."""
        ...

    def head_scores(
        self, batch: Ragged, types: NDArray[np.uint8], head: str, mode: str | None = None
    ) -> Vectors:
        """float32[total, outputs] of a head that a card of no mode, or of this one, brings."""
        ...

    def class_scores(self, batch: Ragged, types: NDArray[np.uint8]) -> Vectors:
        """float32[n, labels] of the model's head for whole texts."""
        ...

    def logits(self, ids: NDArray[np.int32]) -> Vectors:
        """float32[length, vocab]."""
        ...

    def token_nll(self, ids: NDArray[np.int32], first: int) -> Vectors:
        """float32[length - first], nats."""
        ...

    def session(self, max_tokens: int, cards: CardsInUse[Any]) -> GenerationSession:
        """An empty session, whose passes use some cards."""
        ...

    def prefix_stats(self) -> dict[str, int]:
        """What is kept of the beginnings of texts."""
        ...


class InferenceCore:
    """The forward pass of one model; calls from several threads are safe.

    Args:
        weights: what `WeightLoader.load_weights()` returned, a `_native.WeightFile`, or a plain mapping
            from Hugging Face names to float arrays.
        config: the model's `ModelMetadata`, or its `metadata.json` as a mapping.
        device: "cpu", or a device of the torch backend ("cuda", "cuda:1", "xpu", "mps").
        backend: "native" (Rust, CPU only) or "torch" (the readable reference); by default native on the
            CPU and torch elsewhere.
        num_threads: threads of the native backend; 0 is one for each physical core.
        half_cache: keep keys and values in half precision: half the memory, slightly less exact.
        prefix_cache_bytes: most that is kept of the beginnings of texts; 0 keeps nothing, None is 256 MiB.
        dtype: what the torch backend computes in: "float32", "bfloat16" or "float16"; None is bfloat16 on a
            CUDA or ROCm device that has it, float32 elsewhere. The native backend computes in the numbers of
            the weights.

    Raises:
        ConfigurationError: `num_threads` or `prefix_cache_bytes` is negative, or `dtype` is none of these.
        DeviceError: the device, or torch for it, is not there.
        ModelLoadError: the architecture or one of its settings is not supported.
        WeightError: a tensor is missing or has the wrong shape.
    """

    def __init__(
        self,
        weights: Any,
        config: ModelMetadata | Mapping[str, Any],
        device: str = "cpu",
        backend: Literal["native", "torch"] | None = None,
        *,
        num_threads: int = 0,
        half_cache: bool = False,
        prefix_cache_bytes: int | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    ) -> None:
        self.config = config if isinstance(config, ModelMetadata) else ModelMetadata.from_dict(config)
        self.weights, self.device = weights, device
        if num_threads < 0:
            raise ConfigurationError(f"num_threads is {num_threads}, expected 0 (one a core) or more")
        if prefix_cache_bytes is not None and prefix_cache_bytes < 0:
            raise ConfigurationError(f"prefix_cache_bytes is {prefix_cache_bytes}, expected 0 (none) or more")
        chosen = backend or ("native" if device == "cpu" else "torch")
        if chosen == "native":
            if device != "cpu":
                raise DeviceError(f"the native backend runs on 'cpu', got {device!r}; use backend='torch'")
            if dtype is not None:
                raise ConfigurationError(
                    f"dtype is {dtype!r}, and the native backend computes in the numbers of the weights; "
                    "leave dtype out, or use backend='torch'"
                )
            self.backend: Backend = NativeCore(
                weights, self.config, num_threads, half_cache, prefix_cache_bytes
            )
        elif chosen == "torch":
            try:
                from ai_os_diffusion.inference.torch.torch_core import TorchCore
            except ModuleNotFoundError as error:
                raise DeviceError(
                    f"backend 'torch' needs the package {error.name}, which is not installed: "
                    "pip install 'ai-os-diffusion[gpu]', or leave backend out"
                ) from error
            self.backend = TorchCore(
                weights,
                self.config,
                device,
                dtype=dtype,
                half_cache=half_cache,
                prefix_cache_bytes=prefix_cache_bytes,
            )
        else:
            raise InferenceError(f"backend is {chosen!r}, expected 'native' or 'torch'")

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> Vectors:
        """Embed token sequences.

        Args:
            input_ids: int[n, length], one sequence [length], or a list of sequences of any lengths.
            attention_mask: 1 for tokens, 0 for padding, of the shape of `input_ids`.
            pooling: one of `POOLINGS`; by default the model's own.
            normalize: scale vectors to length 1; by default as the model says.

        Returns:
            float32[n, hidden].

        Raises:
            InferenceError: the model has no pooling and none is given; a sequence is longer than the
                model's window; an id is outside the vocabulary.
            ShapeError: ids and mask disagree.
        """
        return self.embed(as_ragged(input_ids, attention_mask), pooling=pooling, normalize=normalize)

    def embed(
        self, batch: Ragged, *, pooling: str | None = None, normalize: bool | None = None, skip: int = 0
    ) -> Vectors:
        """As calling the core, with a batch that has no padding.

        The first `skip` tokens of each sequence are seen by the others and not pooled.
        """
        return self.backend.embed(batch, self.pooling_or_own(pooling), self._normalize(normalize), skip)

    def hidden_states(self, input_ids: Any, attention_mask: Any = None) -> list[Vectors]:
        """Final hidden states of each sequence: n arrays float32[length, hidden]."""
        return self.token_states(as_ragged(input_ids, attention_mask))

    def token_states(self, batch: Ragged) -> list[Vectors]:
        """As `hidden_states`, of a batch that has no padding."""
        offsets = batch[1]
        return np.split(self.backend.hidden_states(batch), offsets[1:-1]) if len(offsets) > 1 else []

    @property
    def cards(self) -> AttachedCards[Any]:
        """The cards that passes use."""
        return self.backend.cards

    def head_scores(
        self, batch: Ragged, head: str, types: ArrayLike | None = None, *, mode: str | None = None
    ) -> Vectors:
        """Scores of every token by a head that an attached card brings.

        Args:
            batch: sequences without padding.
            head: its name.
            types: token types, one an id; None is 0 for all.
            mode: use cards of this mode too, such as "reader".

        Returns:
            float32[total, outputs].

        Raises:
            CardError: no attached card has such a head.
            ShapeError: `types` and ids differ in number, or the model has no such type.
        """
        kinds = np.ascontiguousarray([] if types is None else types, np.uint8)
        return self.backend.head_scores(batch, kinds, head, mode)

    def class_scores(self, batch: Ragged, types: ArrayLike | None = None) -> Vectors:
        """Scores of whole texts by the head of a model that was trained to score them, such as a reranker.

        Args:
            batch: sequences without padding.
            types: token types, one an id; None is 0 for all.

        Returns:
            float32[n, labels], as the head gives them.

        Raises:
            InferenceError: the model has no such head.
            ShapeError: `types` and ids differ in number, or the model has no such type.
        """
        if not self.config.num_labels:
            raise InferenceError(
                f"scoring texts needs a model with a head for it, such as a reranker; this "
                f"{self.config.architecture} model has none"
            )
        kinds = np.ascontiguousarray([] if types is None else types, np.uint8)
        return self.backend.class_scores(batch, kinds)

    def logits(self, ids: ArrayLike) -> Vectors:
        """Scores of the token after each position of one sequence: float32[length, vocab].

        Raises:
            InferenceError: the model is an encoder, or the sequence does not fit its window.
        """
        self._need_head("logits")
        return self.backend.logits(as_ids(ids))

    def token_nll(self, ids: ArrayLike, first: int = 1) -> Vectors:
        """Negative log-likelihoods, in nats, of `ids[first:]`, each given all ids before it.

        Returns:
            float32[length - first].
        """
        self._need_head("token_nll")
        return self.backend.token_nll(as_ids(ids), first)

    def session(self, max_tokens: int, cards: CardsInUse[Any] | None = None) -> Any:
        """An empty `GenerationSession` with room for `max_tokens`.

        Args:
            max_tokens: room.
            cards: what its passes use; by default what is in use now.

        Raises:
            InferenceError: the model is an encoder or has fewer positions.
        """
        self._need_head("generation")
        return self.backend.session(max_tokens, cards or self.cards.in_use())

    def prefix_stats(self) -> dict[str, int]:
        """What is kept of the beginnings of texts, and how it served.

        Returns:
            `size_bytes`, `limit_bytes`, `pages` (of at most 64 tokens), `reused_tokens` (not computed again)
            and `dropped_pages`.
        """
        return self.backend.prefix_stats()

    def pooling_or_own(self, pooling: str | None) -> str:
        """The pooling asked for, or the model's own.

        Raises:
            InferenceError: there is neither.
        """
        chosen = pooling or self.config.pooling
        if chosen is None:
            raise InferenceError(
                f"a {self.config.architecture} model without a pooling does not embed; "
                "use an encoder, or pass pooling='mean' or 'last'"
            )
        return chosen

    def _need_head(self, operation: str) -> None:
        if not self.config.has_head:
            raise InferenceError(
                f"{operation} needs a head, and this model was saved without one: it embeds; "
                "convert the model that writes"
            )

    def _normalize(self, normalize: bool | None) -> bool:
        return self.config.normalize if normalize is None else normalize
