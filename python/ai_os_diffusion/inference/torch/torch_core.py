"""The torch backend: the readable reference, on any device torch knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.attached_cards import AttachedCards
from ai_os_diffusion.inference.cuda_backend import require_memory
from ai_os_diffusion.inference.decoder_layers import BertBlock, DecoderBlock, layer_norm, rms_norm
from ai_os_diffusion.inference.ragged import Ragged
from ai_os_diffusion.inference.torch.rotary_frequencies import rotary_frequencies
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import DeviceError, InferenceError, ModelLoadError, ShapeError, WeightError

__all__ = ["TorchCore", "TorchSession"]

Tensor = Any
Vectors = NDArray[np.float32]

_POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda h, _: h.mean(0),
    "cls": lambda h, _: h[0],
    "last": lambda h, _: h[-1],
    "max": lambda h, _: h.max(0).values,
    "mean_sqrt": lambda h, _: h.sum(0) / len(h) ** 0.5,
    "weighted_mean": lambda h, places: (h * places).sum(0) / places.sum(),
}
"""States [tokens, hidden] and their places in the text [tokens, 1] to [hidden]."""

_SLICE_TOKENS = 4096
"""Padded tokens of a batch at most, so that memory stays bounded."""


class TorchCore:
    """A network in float32 on a torch device; see `InferenceCore` for what the methods mean."""

    def __init__(self, weights: Any, config: ModelMetadata, device: str) -> None:
        self.config = config
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(
                f"torch {torch.__version__} cannot use device {device!r}: {error}; "
                "install a build of torch for it, or use device='cpu'"
            ) from error
        arrays = _plain_arrays(weights)
        self._require(sum(array.size for array in arrays.values()), "the weights")
        self.weights = {name: self._tensor(array) for name, array in arrays.items()}
        layers = range(config.num_layers)
        try:
            if config.architecture == "bert":
                act = config.hidden_act
                self._encoder = [
                    BertBlock(self.weights, i, config.num_heads, config.norm_eps, act) for i in layers
                ]
            elif config.architecture in ("llama", "qwen2", "qwen3"):
                kv_heads = config.num_kv_heads
                self._decoder = [
                    DecoderBlock(self.weights, i, config.num_heads, kv_heads, config.norm_eps) for i in layers
                ]
                frequencies, self._attention_factor = rotary_frequencies(config)
                self._frequencies = self._tensor(frequencies.astype(np.float32))
            else:
                raise ModelLoadError(
                    f"architecture {config.architecture!r} is not supported; "
                    "supported: bert, llama, qwen2, qwen3"
                )
        except KeyError as error:
            raise ModelLoadError(f"hidden_act {error} is not supported") from error

    def embed(self, batch: Ragged, pooling: str, normalize: bool, skip: int = 0) -> Vectors:
        """float32[n, hidden]."""
        pool = _POOLINGS.get(pooling)
        if pool is None:
            raise ModelLoadError(f"pooling {pooling!r} is not supported; supported: {', '.join(_POOLINGS)}")
        out = torch.zeros(len(batch[1]) - 1, self.config.hidden_size)
        for index, states in self._sequences(batch):
            places = torch.arange(1, len(states) + 1)[:, None]
            begin = min(skip, len(states) - 1)
            out[index] = pool(states[begin:], places[begin:])
        if normalize:
            out = torch.nn.functional.normalize(out, dim=-1)
        return np.asarray(out.numpy())

    def hidden_states(self, batch: Ragged) -> Vectors:
        """float32[total, hidden]."""
        ids, offsets = batch
        out = np.zeros((len(ids), self.config.hidden_size), np.float32)
        for index, states in self._sequences(batch):
            out[offsets[index] : offsets[index + 1]] = states.numpy()
        return out

    def logits(self, ids: NDArray[np.int32]) -> Vectors:
        """float32[length, vocab]."""
        self._need_decoder("logits")
        rows = self._checked((ids, np.array([0, len(ids)])))
        with torch.inference_mode():
            states, _ = self.decode(rows[0][None], [None] * self.config.num_layers)
            return np.asarray(self.head(states[0]).cpu().numpy())

    def token_nll(self, ids: NDArray[np.int32], first: int) -> Vectors:
        """float32[length - first]."""
        if not 1 <= first < len(ids):
            raise InferenceError(f"token_nll needs at least {max(first, 1) + 1} tokens, got {len(ids)}")
        logits = torch.from_numpy(self.logits(ids)[first - 1 : -1])
        targets = torch.from_numpy(ids[first:].astype(np.int64))
        return np.asarray(torch.nn.functional.cross_entropy(logits, targets, reduction="none").numpy())

    def session(self, max_tokens: int) -> TorchSession:
        """An empty session."""
        self._need_decoder("generation")
        if max_tokens > self.config.max_position_embeddings:
            raise InferenceError(
                f"{max_tokens} tokens do not fit the model's window of {self.config.max_position_embeddings}"
            )
        width = self.config.num_layers * self.config.num_kv_heads * self.config.head_dim
        self._require(2 * width * max_tokens, f"the keys and values of {max_tokens} tokens")
        return TorchSession(self, max_tokens)

    @property
    def cards(self) -> AttachedCards:
        """None yet: cards are for the native backend."""
        raise InferenceError("the torch backend takes no cards; use device='cpu'")

    def head_scores(self, *_batch: Any, **_options: Any) -> Vectors:
        """Refused: a head belongs to a card."""
        raise InferenceError("the torch backend takes no cards, and a head belongs to one; use device='cpu'")

    def prefix_stats(self) -> dict[str, int]:
        """Nothing is kept of the beginnings of texts."""
        return dict.fromkeys(("size_bytes", "limit_bytes", "pages", "reused_tokens", "dropped_pages"), 0)

    def _require(self, numbers: int, what: str) -> None:
        """Refuse what the device cannot hold in float32; how much others hold no interface says."""
        if self.device.type == "cuda":
            require_memory(4 * numbers, what, self.device.index or 0)

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of an encoder: int64[batch, length], bool alike, to [batch, length, hidden]."""
        weights = self.weights
        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + weights["embeddings.token_type_embeddings.weight"][0]
        x = layer_norm(x, weights, "embeddings.LayerNorm", self.config.norm_eps)
        for block in self._encoder:
            x = block(x, mask[:, None, None, :])
        return x

    def decode(self, ids: Tensor, past: list[Any]) -> tuple[Tensor, list[Any]]:
        """Final hidden states of a decoder's new tokens, and its keys and values.

        Args:
            ids: int64[batch, length].
            past: keys and values of each layer, or None.

        Returns:
            [batch, length, hidden], and the new `past`.
        """
        begin = 0 if past[0] is None else past[0][0].shape[2]
        positions = torch.arange(begin, begin + ids.shape[1], device=self.device)
        angles = positions[:, None].float() * self._frequencies
        cos, sin = angles.cos() * self._attention_factor, angles.sin() * self._attention_factor
        seen = torch.arange(begin + ids.shape[1], device=self.device)[None] <= positions[:, None]
        x = self.weights["model.embed_tokens.weight"][ids]
        kept = []
        for block, before in zip(self._decoder, past, strict=True):
            x, after = block(x, cos, sin, seen, before)
            kept.append(after)
        return rms_norm(x, self.weights["model.norm.weight"], self.config.norm_eps), kept

    def head(self, states: Tensor) -> Tensor:
        """[..., hidden] to logits [..., vocab]."""
        own = None if self.config.tied_embeddings else self.weights.get("lm_head.weight")
        return states @ (self.weights["model.embed_tokens.weight"] if own is None else own).T

    def _sequences(self, batch: Ragged) -> Iterator[tuple[int, Tensor]]:
        """Final hidden states [length, hidden] of each sequence on the CPU, in batches of like length."""
        rows = self._checked(batch)
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        while order:
            count = max(1, _SLICE_TOKENS // max(1, len(rows[order[0]])))
            chosen, order = order[:count], order[count:]
            padded = torch.nn.utils.rnn.pad_sequence([rows[i] for i in chosen], batch_first=True)
            lengths = torch.tensor([len(rows[i]) for i in chosen], device=self.device)
            with torch.inference_mode():
                if self.config.is_decoder:
                    states, _ = self.decode(padded, [None] * self.config.num_layers)
                else:
                    mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
                    states = self.encode(padded, mask)
                states = states.cpu()
            for row, index in enumerate(chosen):
                yield index, states[row, : len(rows[index])]

    def _checked(self, batch: Ragged) -> list[Tensor]:
        ids, offsets = batch
        lengths = np.diff(offsets)
        window, vocab = self.config.max_position_embeddings, self.config.vocab_size
        if len(lengths) and lengths.min() < 1:
            raise ShapeError(f"sequence {int(lengths.argmin())} has no tokens")
        if len(lengths) and lengths.max() > window:
            raise InferenceError(f"{int(lengths.max())} tokens do not fit the model's window of {window}")
        if len(ids) and (ids.min() < 0 or ids.max() >= vocab):
            wrong = int(np.flatnonzero((ids < 0) | (ids >= vocab))[0])
            raise InferenceError(
                f"token id {ids[wrong]} at position {wrong} is outside the vocabulary of {vocab}"
            )
        whole = torch.from_numpy(ids.astype(np.int64)).to(self.device)
        return list(whole.split(lengths.tolist())) if len(lengths) else []

    def _need_decoder(self, operation: str) -> None:
        if not self.config.is_decoder:
            raise InferenceError(
                f"{operation} needs a decoder (llama, qwen2, qwen3); "
                f"this model is of architecture {self.config.architecture!r}"
            )

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.array(array, np.float32)).to(self.device)


class TorchSession:
    """One text that grows; see `GenerationSession`."""

    def __init__(self, core: TorchCore, max_tokens: int) -> None:
        self._core, self.max_tokens = core, max_tokens
        self._past: list[Any] = [None] * core.config.num_layers
        self._tokens: list[int] = []
        self._logits = np.empty(0, np.float32)

    def prefill(self, ids: NDArray[np.int32]) -> None:
        """Read tokens behind those it has."""
        if len(self) + len(ids) > self.max_tokens:
            raise InferenceError(f"{len(self) + len(ids)} tokens do not fit the session of {self.max_tokens}")
        if not len(ids):
            return
        rows = self._core._checked((np.asarray(ids, np.int32), np.array([0, len(ids)])))
        with torch.inference_mode():
            states, self._past = self._core.decode(rows[0][None], self._past)
            self._logits = self._core.head(states[0, -1]).cpu().numpy()
        self._tokens += [int(id) for id in ids]

    def push(self, id: int) -> None:
        """Read one token."""
        self.prefill(np.array([id], np.int32))

    def sample(self, sampler: _native.Sampler) -> tuple[int, float]:
        """Choose the next token, without reading it."""
        if not len(self._logits):
            raise InferenceError("sampling needs at least 1 tokens, got 0")
        return sampler.sample(self._logits, np.array(self._tokens, np.uint32))

    def __len__(self) -> int:
        return len(self._tokens)


def _plain_arrays(weights: Any) -> Mapping[str, NDArray[np.float32]]:
    file = getattr(weights, "native", weights)
    if isinstance(file, _native.WeightFile):
        return {name: file.dequantize(name) for name in file.names}
    if not isinstance(weights, Mapping):
        raise WeightError(f"expected a mapping of names to arrays, got {type(weights).__name__}")
    return weights
