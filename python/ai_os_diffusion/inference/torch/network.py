"""The networks: ids of a pass to hidden states, states to logits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.decoder_layers import Block, Classifier, Linear, Norm
from ai_os_diffusion.inference.torch.adapter import Cards, Sites
from ai_os_diffusion.inference.torch.forward_pass import CachedView, OwnView, Pass
from ai_os_diffusion.inference.torch.kv_cache import KvCache
from ai_os_diffusion.inference.torch.rotary_frequencies import rotary_frequencies
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import WeightError

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

    def check(self, name: str, shape: list[int]) -> None:
        """Refuse a tensor of another shape.

        Raises:
            WeightError: it has one.
        """
        found = self._arrays[name].shape if self._file is None else self._file.info(name)["shape"]
        if list(found) != shape:
            raise WeightError(f'tensor "{name}": expected shape {shape}, got {list(found)}')

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


class Rotary:
    """The angles by which positions turn heads."""

    def __init__(self, weights: DeviceWeights, config: ModelMetadata) -> None:
        frequencies, self._factor = rotary_frequencies(config)
        both = np.concatenate([frequencies, frequencies]).astype(np.float32)
        self._frequencies, self._dtype = torch.from_numpy(both).to(weights.device), weights.dtype
        # Turning the second half against the first is turning by the opposite angle.
        self._signs = torch.ones_like(self._frequencies)
        self._signs[: len(frequencies)] = -1

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, [texts, length, 1, head_dim], of positions [texts, length]."""
        angles = positions[..., None, None].float() * self._frequencies
        cos, sin = angles.cos() * self._factor, angles.sin() * (self._signs * self._factor)
        return cos.to(self._dtype), sin.to(self._dtype)


class Blocks:
    """What stands between the tables of a network and its final states, as its layout says."""

    def __init__(self, weights: DeviceWeights, config: ModelMetadata, layout: Mapping[str, Any]) -> None:
        family = layout["family"]
        self._blocks = [
            Block(weights, block, family, config, index) for index, block in enumerate(layout["blocks"])
        ]
        self.names = [block["name"] for block in layout["blocks"]]
        self._last = Norm.of(weights, layout["final_norm"], config.norm_eps)
        self._rotaries: list[Rotary] = []
        if family["is_rotary"]:
            windows = config.window_rope_theta
            other = [] if windows is None else [replace(config, rope_theta=windows)]
            self._rotaries = [Rotary(weights, described) for described in (config, *other)]

    @property
    def linears(self) -> list[Linear]:
        """What a card may add to."""
        return [linear for block in self._blocks for linear in block.linears]

    @property
    def norms(self) -> list[Norm]:
        """What a card may replace."""
        norms = [norm for block in self._blocks for norm in block.norms]
        return [*norms, self._last] if isinstance(self._last, Norm) else norms

    def __call__(self, x: Tensor, asked: Pass, dtype: Any, cache: KvCache | None = None) -> Tensor:
        """[texts, length, hidden] to the same."""
        positions = asked.positions if asked.turns is None else asked.turns
        angles = [rotary(positions) for rotary in self._rotaries]
        if cache is None or asked.tables is None:
            view: OwnView | CachedView = OwnView(asked, angles, dtype)
        else:
            view = CachedView(asked, angles, dtype, cache)
        for name, block in zip(self.names, self._blocks, strict=True):
            x = asked.cards.side(name, block(x, view))
        return self._last(x, asked.cards)


class Encoder:
    """Texts whose tokens see each other: tables, blocks, and perhaps a head for whole texts."""

    def __init__(self, weights: DeviceWeights, config: ModelMetadata, layout: Mapping[str, Any]) -> None:
        self.dtype = weights.dtype

        def table(part: str) -> Tensor:
            return None if layout[part] is None else weights[f"{layout[part]['name']}.weight"]

        self._words, self._places, self._types = table("words"), table("positions"), table("types")
        self._types_name = f"{(layout['types'] or {}).get('name')}.weight"
        self._offset = config.position_offset
        self._norm = Norm.of(weights, layout["embedding_norm"], config.norm_eps)
        self._blocks = Blocks(weights, config, layout)
        head = layout["classifier"]
        self.classifier = None if head is None else Classifier(weights, head, config.norm_eps)
        heads = [] if self.classifier is None else [self.classifier]
        norms = [*self._blocks.norms, *(norm for head in heads for norm in head.norms)]
        norms += [self._norm] if isinstance(self._norm, Norm) else []
        self.sites = Sites(
            hidden=config.hidden_size,
            linears=[*self._blocks.linears, *(linear for head in heads for linear in head.linears)],
            vectors={
                **({} if self._types is None else {self._types_name: self._types}),
                **_vectors(norms),
            },
            embedding=None,
            rows_name=f"{layout['words']['name']}.rows",
        )

    def __call__(self, asked: Pass, _cache: KvCache | None = None) -> Tensor:
        """[texts, length, hidden]."""
        x = self._words[asked.ids]
        if self._places is not None:
            x = x + self._places[self._offset : self._offset + asked.ids.shape[1]]
        if self._types is not None:
            x = x + self._of_types(asked, x.shape[-1])
        return self._blocks(self._norm(x, asked.cards), asked, self.dtype)

    def _of_types(self, asked: Pass, width: int) -> Tensor:
        name = self._types_name
        types = torch.zeros_like(asked.ids) if asked.types is None else asked.types
        if not any(name in adapter.vectors for _, adapter in asked.cards.runs):
            return self._types[types]
        # An adapter's table is told as one vector for each text.
        tables = torch.stack([self._types] * len(asked.ids))
        for rows, adapter in asked.cards.runs:
            tables[rows] = adapter.vectors.get(name, self._types)
        return tables.gather(1, types[..., None].expand(-1, -1, width))


class Decoder:
    """Texts whose tokens see those before them, and a head that scores the vocabulary.

    The embedding and the head stay in float32, whatever the blocks compute in: rounded to bfloat16, logits of
    likely tokens are equal more often than not.
    """

    def __init__(self, weights: DeviceWeights, config: ModelMetadata, layout: Mapping[str, Any]) -> None:
        self.dtype = weights.dtype
        self._blocks = Blocks(weights, config, layout)
        self._embedding = weights.exact(f"{layout['words']['name']}.weight")
        self.vocab_size = len(self._embedding)
        head = layout["family"]["head"]
        name = f"{head}.weight"
        tied = config.tied_embeddings
        self._is_tied = name not in weights if tied is None else tied
        # An embedding model is saved without its head, and is never asked for logits.
        own = weights.exact(name) if config.has_head and not self._is_tied else None
        scores = self._embedding if self._is_tied else own
        self._head = None if scores is None else Linear({name: scores}, head)
        self.sites = Sites(
            hidden=config.hidden_size,
            linears=[*self._blocks.linears, *([] if self._head is None else [self._head])],
            vectors=_vectors(self._blocks.norms),
            embedding=self._embedding,
            rows_name=f"{layout['words']['name']}.rows",
            # Between blocks with norms behind their layers there is no stream to add to.
            blocks=self._blocks.names if layout["family"]["norm_place"] == "before" else (),
            parameters=_parameters(config),
            eps=config.norm_eps,
        )

    def __call__(self, asked: Pass, cache: KvCache | None = None) -> Tensor:
        """[texts, length, hidden], after the last norm."""
        x = self._embedding[asked.ids]
        asked.cards.embed(asked.ids, x)
        return self._blocks(x.to(self.dtype), asked, self.dtype, cache)

    def head(self, states: Tensor, cards: Cards) -> Tensor:
        """[texts, rows, hidden] of texts that use `cards` to logits float32[texts, rows, vocab]."""
        assert self._head is not None
        states = states.float()
        logits = F.linear(states, self._head.weight)
        if self._is_tied:
            cards.score(states, logits)
        cards.add(self._head, states, logits, logits)
        return logits


Network = Encoder | Decoder


def build_network(weights: DeviceWeights, config: ModelMetadata) -> Network:
    """The network of a model.

    Raises:
        ModelLoadError: the architecture or one of its settings is not supported.
        WeightError: a tensor is missing, or has another shape than the network needs.
    """
    for name, shape, _, is_needed in _native.tensors_of_model(config.to_json()):
        if name in weights:
            weights.check(name, shape)
        elif is_needed:
            raise WeightError(f'weights lack tensor "{name}" of shape {shape}')
    layout = json.loads(_native.layout_json(config.to_json()))
    kind = Decoder if layout["family"]["is_decoder"] else Encoder
    return kind(weights, config, layout)


def _parameters(config: ModelMetadata) -> int:
    """Numbers that a network needs."""
    needed = (shape for _, shape, _, is_needed in _native.tensors_of_model(config.to_json()) if is_needed)
    return sum(map(math.prod, needed))


def _vectors(norms: list[Norm]) -> dict[str, Tensor]:
    return {name: vector for norm in norms for name, vector in norm.vectors.items()}
