"""The networks: ids of a pass to hidden states, states to logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.decoder_layers import ACTIVATIONS, BertBlock, DecoderBlock, Linear, Norm
from ai_os_diffusion.inference.torch.adapter import Cards, Sites
from ai_os_diffusion.inference.torch.forward_pass import CachedView, OwnView, Pass
from ai_os_diffusion.inference.torch.kv_cache import KvCache
from ai_os_diffusion.inference.torch.rotary_frequencies import rotary_frequencies
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError

__all__ = ["Decoder", "DeviceWeights", "Encoder", "Network", "build_network"]

Tensor = Any
Array = NDArray[np.float32]


class DeviceWeights(Mapping[str, Any]):
    """Weights by name, put on a device one by one when they are asked for.

    Args:
        weights: what `WeightLoader.load_weights()` returned, a `_native.WeightFile`, or a mapping of arrays.
        device: of torch.
        dtype: of the numbers of a pass.

    Raises:
        WeightError: `weights` is none of these; a tensor that is asked for is missing.
    """

    def __init__(self, weights: Any, device: Any, dtype: Any) -> None:
        file = getattr(weights, "native", weights)
        self._file = file if isinstance(file, _native.WeightFile) else None
        if self._file is None and not isinstance(weights, Mapping):
            raise WeightError(f"expected a mapping of names to arrays, got {type(weights).__name__}")
        self._arrays: Mapping[str, Array] = {} if self._file is not None else weights
        self._names = frozenset(self._arrays if self._file is None else self._file.names)
        self.device, self.dtype = device, dtype

    @property
    def count(self) -> int:
        """How many numbers they are."""
        if self._file is None:
            return sum(array.size for array in self._arrays.values())
        return sum(int(np.prod(self._file.info(name)["shape"])) for name in self._names)

    def __getitem__(self, name: str) -> Tensor:
        return self.exact(name).to(self.dtype)

    def exact(self, name: str) -> Tensor:
        """In float32, whatever a pass computes in."""
        if name not in self._names:
            raise WeightError(f'weights lack tensor "{name}"')
        array = self._arrays[name] if self._file is None else self._file.dequantize(name)
        return torch.from_numpy(np.array(array, np.float32)).to(self.device)

    def get(self, name: str, default: Any = None) -> Any:
        """As a mapping does it; a missing tensor is no error here."""
        return self[name] if name in self._names else default

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Encoder:
    """BERT: learned positions, then blocks. Source: arXiv:1810.04805."""

    def __init__(self, weights: DeviceWeights, config: ModelMetadata) -> None:
        if config.hidden_act not in ACTIVATIONS:
            raise ModelLoadError(
                f"hidden_act {config.hidden_act!r} is not supported; supported: {', '.join(ACTIVATIONS)}"
            )
        self.dtype = weights.dtype
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = weights["embeddings.position_embeddings.weight"]
        self._types = weights[_TYPES]
        self._norm = Norm(weights, "embeddings.LayerNorm", config.norm_eps, is_rms=False)
        self._blocks = [
            BertBlock(weights, index, config.num_heads, config.norm_eps, config.hidden_act)
            for index in range(config.num_layers)
        ]
        self.sites = Sites(
            hidden=config.hidden_size,
            linears=[linear for block in self._blocks for linear in block.linears],
            vectors={_TYPES: self._types, **_vectors(self._blocks, self._norm)},
            embedding=None,
        )

    def __call__(self, asked: Pass, _cache: KvCache | None = None) -> Tensor:
        """[texts, length, hidden]."""
        x = self._words[asked.ids] + self._places[: asked.ids.shape[1]]
        types = torch.zeros_like(asked.ids) if asked.types is None else asked.types
        if not any(_TYPES in adapter.vectors for _, adapter in asked.cards.runs):
            x = x + self._types[types]
        else:
            # An adapter's table is told as one vector for each text.
            tables = torch.stack([self._types] * len(asked.ids))
            for rows, adapter in asked.cards.runs:
                tables[rows] = adapter.vectors.get(_TYPES, self._types)
            x = x + tables.gather(1, types[..., None].expand(-1, -1, x.shape[-1]))
        x = self._norm(x, asked.cards)
        nothing = x.new_empty(0)
        view = OwnView(asked, nothing, nothing, self.dtype)
        for block in self._blocks:
            x = block(x, view)
        return x


class Decoder:
    """Llama, Qwen2 and Qwen3: blocks with rotary positions, a norm and a head.

    The embedding and the head stay in float32, whatever the blocks compute in: rounded to bfloat16, logits of
    likely tokens are equal more often than not.
    """

    def __init__(self, weights: DeviceWeights, config: ModelMetadata) -> None:
        self.dtype = weights.dtype
        self._blocks = [
            DecoderBlock(weights, index, config.num_heads, config.num_kv_heads, config.norm_eps)
            for index in range(config.num_layers)
        ]
        self._norm = Norm(weights, "model.norm", config.norm_eps, is_rms=True)
        self._embedding = weights.exact("model.embed_tokens.weight")
        self.vocab_size = len(self._embedding)
        tied = config.tied_embeddings
        self._is_tied = "lm_head.weight" not in weights if tied is None else tied
        head = self._embedding if self._is_tied else self._own_head(weights, config)
        self._head = None if head is None else Linear({"lm_head.weight": head}, "lm_head")
        frequencies, self._factor = rotary_frequencies(config)
        both = np.concatenate([frequencies, frequencies]).astype(np.float32)
        self._frequencies = torch.from_numpy(both).to(weights.device)
        # Turning the second half against the first is turning by the opposite angle.
        self._signs = torch.ones_like(self._frequencies)
        self._signs[: len(frequencies)] = -1
        self.sites = Sites(
            hidden=config.hidden_size,
            linears=[
                *(linear for block in self._blocks for linear in block.linears),
                *([] if self._head is None else [self._head]),
            ],
            vectors=_vectors(self._blocks, self._norm),
            embedding=self._embedding,
        )

    def __call__(self, asked: Pass, cache: KvCache | None = None) -> Tensor:
        """[texts, length, hidden], after the last norm."""
        x = self._embedding[asked.ids]
        asked.cards.embed(asked.ids, x)
        x = x.to(self.dtype)
        angles = asked.positions[..., None, None].float() * self._frequencies
        cos = (angles.cos() * self._factor).to(self.dtype)
        sin = (angles.sin() * (self._signs * self._factor)).to(self.dtype)
        if cache is None or asked.tables is None:
            view: OwnView | CachedView = OwnView(asked, cos, sin, self.dtype)
        else:
            view = CachedView(asked, cos, sin, self.dtype, cache)
        for block in self._blocks:
            x = block(x, view)
        return self._norm(x, asked.cards)

    def head(self, states: Tensor, cards: Cards) -> Tensor:
        """[texts, rows, hidden] of texts that use `cards` to logits float32[texts, rows, vocab]."""
        assert self._head is not None
        states = states.float()
        logits = F.linear(states, self._head.weight)
        if self._is_tied:
            cards.score(states, logits)
        cards.add(self._head, states, logits)
        return logits

    @staticmethod
    def _own_head(weights: DeviceWeights, config: ModelMetadata) -> Tensor:
        # An embedding model is saved without its head, and is never asked for logits.
        return weights.exact("lm_head.weight") if config.has_head else None


Network = Encoder | Decoder

_TYPES = "embeddings.token_type_embeddings.weight"


def build_network(weights: DeviceWeights, config: ModelMetadata) -> Network:
    """The network of a model.

    Raises:
        ModelLoadError: the architecture or one of its settings is not supported.
        WeightError: a tensor is missing.
    """
    if config.architecture == "bert":
        return Encoder(weights, config)
    if config.architecture in ("llama", "qwen2", "qwen3"):
        return Decoder(weights, config)
    raise ModelLoadError(
        f"architecture {config.architecture!r} is not supported; supported: bert, llama, qwen2, qwen3"
    )


def _vectors(blocks: list[Any], last: Norm) -> dict[str, Tensor]:
    norms = [norm for block in blocks for norm in block.norms]
    return {name: vector for norm in [*norms, last] for name, vector in norm.vectors.items()}
