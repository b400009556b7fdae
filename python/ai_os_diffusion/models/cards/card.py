"""A card as its file holds it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile, WeightWriter
from ai_os_diffusion.models.cards.description import CardDescription
from ai_os_diffusion.models.cards.magnitudes import WeightOf, with_row_scales
from ai_os_diffusion.models.cards.names import (
    MAGNITUDE,
    ROW_SCALE,
    ROWS,
    SIDE_DOWN,
    SIDE_UP,
    A,
    B,
    layer_of,
    scaled_layer_of,
    side_of,
)
from ai_os_diffusion.models.cards.rounding import round_factors, values_of
from ai_os_diffusion.models.contents import sha256_of
from ai_os_diffusion.models.convert.source import Codes
from ai_os_diffusion.utils.errors import CardError, ModelNotFoundError
from ai_os_diffusion.utils.lazy_property import lazy_property

__all__ = ["EMBEDDING", "HEAD", "MOST_SIDE_SHARE", "Card", "Tensor", "check_against", "check_shapes"]

MOST_SIDE_SHARE = 10
"""One number in so many of the base's is the most that the side blocks of a card have."""

DESCRIPTION = "card"

_FEW_BITS = 4
"""At which what rounding takes from one factor is worth making up for in the other."""

HEAD, EMBEDDING = "lm_head", "model.embed_tokens.weight"
"""The head of a decoder, and what stands for it in one that is tied."""

TYPES = "token_type_embeddings.weight"
"""The one table of a base that a card may replace."""

Tensor = NDArray[Any] | Codes
"""float32 or float16, or a matrix that is rounded to codes already."""

Shapes = Mapping[str, tuple[int, ...]]


class Card:
    """Low-rank factors, side blocks, replaced tensors, rows of the embedding and heads, with a description.

    Its tensors are `{layer}.lora_A.weight` [rank, in] and `{layer}.lora_B.weight` [out, rank] for linear
    layers of the base, with `{layer}.lora_magnitude_vector` [out] and `{layer}.lora_row_scale` [out] where
    lengths of rows were learned apart from their directions; `{block}.side_down.weight` [side_width, width]
    and `{block}.side_up.weight` [width, side_width] for blocks of it; `{embedding}.rows` [row_ids, width];
    `{head}.weight` and `{head}.bias` of heads. Any other name is a tensor of the base, whose place it takes.

    Args:
        path: the file.

    Attributes:
        description: what it says of itself.
        shapes: of its tensors, by name.

    Raises:
        ModelNotFoundError: there is none.
        WeightError: it is damaged.
        CardError: it is no card, or its tensors contradict its description or each other.

    Example:
        >>> card = Card("reader.parquet")  # doctest: +SKIP
        >>> card.description.kind, len(card)  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            is_there = "is a folder or device" if self.path.exists() else "not found"
            raise ModelNotFoundError(f"{self.path}: {is_there}; expected the file of a card")
        self.native = WeightFile(self.path)
        text = self.native.metadata.get(DESCRIPTION)
        if text is None:
            raise CardError(
                f"{self.path}: holds weights and no description of a card; see `aios convert --base`"
            )
        self.description = CardDescription.from_json(text, f"{self.path}: {DESCRIPTION}")
        self.shapes = self.native.shapes
        check_shapes(self.description, self.shapes, str(self.path))

    @property
    def name(self) -> str:
        """What it is attached and detached as."""
        return self.description.name

    @lazy_property
    def sha256(self) -> str:
        """Digest of its file, by which another card names it."""
        return sha256_of(self.path)

    @property
    def layers(self) -> list[str]:
        """The linear layers that it has factors for."""
        return [layer for name in self if (layer := layer_of(name)) and name.endswith(A)]

    @property
    def sides(self) -> list[str]:
        """The blocks of the base that it has side blocks behind."""
        return [block for name in self if (block := side_of(name)) and name.endswith(SIDE_DOWN)]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32; raises KeyError when there is none of that name."""
        if name not in self.shapes:
            raise KeyError(name)
        return self.native.dequantize(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __repr__(self) -> str:
        kind, base = self.description.kind, self.description.base.name
        return f"Card({self.name!r}, kind={kind!r}, base={base!r}, rank={self.description.rank})"

    @staticmethod
    def write(
        path: str | os.PathLike[str],
        description: CardDescription,
        tensors: Iterable[tuple[str, Tensor]],
        *,
        bits: int | None = None,
        group_size: int = 32,
        weight_of: WeightOf | None = None,
    ) -> Card:
        """Write a card, whole or not at all.

        Args:
            path: the file.
            description: what it says of itself.
            tensors: names and values.
            bits: round low-rank factors and side blocks to codes of 8 or 4 bits with a scale every
                `group_size` columns, or keep them as they are given. Of 4 bits both factors of a layer are
                rounded together.
            group_size: 32, 64, 128, or 0 for one scale a row.
            weight_of: the weights of a layer of the base, float32[out, in], by its name: of magnitudes the
                scales of rows are computed with them. None takes those that are given.

        Raises:
            CardError: a tensor holds NaN or infinities, or they contradict the description or each other; or
                rows of the base that have no length are to be scaled.
        """
        writer = WeightWriter(path, {"writer": "ai-os-diffusion", DESCRIPTION: description.to_json()})
        shapes = {}
        if bits == _FEW_BITS:
            tensors = _rounded_together(tensors, group_size)
        if weight_of is not None:
            tensors = with_row_scales(tensors, description.scaling, weight_of, bits, group_size)
        try:
            for name, tensor in tensors:
                if name in shapes:
                    raise CardError(f"{path}: tensor {name!r} is there twice")
                shapes[name] = tensor.codes.shape if isinstance(tensor, Codes) else tensor.shape
                _add(writer, name, tensor, bits if layer_of(name) or side_of(name) else None, group_size)
            check_shapes(description, shapes, str(path))
            writer.finish()
        finally:
            writer.abort()
        return Card(path)


def check_shapes(description: CardDescription, shapes: Shapes, place: str) -> None:
    """Compare the tensors of a card with its description and with each other.

    Raises:
        CardError: a factor or a matrix of a side block lacks the other, ranks or widths differ, or a head or
            rows are missing.
    """
    for layer in _owners(shapes, (MAGNITUDE, ROW_SCALE)):
        _check_scaled(layer, shapes, place)
    _check_pairs((A, B), ("layer", "factors", "rank"), description.rank, shapes, place)
    sides = ("block", "side blocks", "side_width")
    _check_pairs((SIDE_DOWN, SIDE_UP), sides, description.side_width, shapes, place)
    rows = [shape for name, shape in shapes.items() if name.endswith(ROWS)]
    if [len(description.row_ids)] * len(rows) != [shape[0] for shape in rows] or (
        description.row_ids and len(rows) != 1
    ):
        raise CardError(
            f"{place}: the description names {len(description.row_ids)} rows of the embedding, it has "
            f"{[list(shape) for shape in rows]}"
        )
    for head in description.heads:
        if f"{head}.weight" not in shapes:
            raise CardError(f"{place}: the description names the head {head!r}, which has no weight")


def _owners(shapes: Shapes, endings: tuple[str, str]) -> Iterable[str]:
    """What tensors with names of such endings belong to, each once: hundreds of each card that is used."""
    first, second = endings
    return dict.fromkeys(
        name.removesuffix(first if name.endswith(first) else second)
        for name in shapes
        if name.endswith(endings)
    )


def _check_pairs(
    parts: tuple[str, str],
    words: tuple[str, str, str],
    said: int,
    shapes: Shapes,
    place: str,
) -> None:
    """Compare the first matrices [inner, in] with the second [out, inner], and `inner` with what is said."""
    largest, (owning, owned, inner) = 0, words
    for owner in _owners(shapes, parts):
        for other in parts:
            if owner + other not in shapes:
                raise CardError(f"{place}: {owning} {owner!r} has no {other[1:]}, expected both {owned}")
        first, second = (shapes[owner + part] for part in parts)
        if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
            raise CardError(
                f"{place}: {owning} {owner!r} has {owned} {list(first)} and {list(second)}, "
                f"expected [{inner}, in] and [out, {inner}]"
            )
        largest = max(largest, first[0])
    if largest != said:
        raise CardError(f"{place}: the description says {inner} {said}, its {owned} have {largest}")


def _check_scaled(layer: str, shapes: Shapes, place: str) -> None:
    """Refuse a magnitude without factors or without its scales, or of another layer's length."""
    for part in (A, B, MAGNITUDE, ROW_SCALE):
        if layer + part not in shapes:
            raise CardError(
                f"{place}: layer {layer!r} has no {part[1:]}, expected both factors, the magnitude and the "
                "scales of rows"
            )
    expected = tuple(shapes[layer + B][:1])
    for part in (MAGNITUDE, ROW_SCALE):
        if tuple(shapes[layer + part]) != expected:
            found = list(shapes[layer + part])
            raise CardError(f"{place}: {layer + part!r} is {found}, expected {list(expected)}")


def check_against(card: CardDescription, shapes: Shapes, base: Shapes, place: str) -> None:
    """Compare the tensors of a card with those of its base.

    Raises:
        CardError: a layer, block or tensor that the base does not have, or of another shape; or side blocks
            that are too large for it.
    """
    _check_sides(shapes, base, place)
    for name, shape in shapes.items():
        if scaled_layer_of(name) is not None:
            # It is as long as the rows of the second factor, which is compared.
            continue
        layer = layer_of(name)
        owner = name.rpartition(".")[0]
        if owner in card.heads or side_of(name) is not None:
            continue
        if layer is None and not name.endswith(ROWS):
            expected = base.get(name)
            if expected is None:
                raise CardError(f"{place}: the base has no tensor {name!r} to be replaced")
            if tuple(expected) != tuple(shape):
                raise CardError(f"{place}: {name!r} is {list(shape)}, that of the base {list(expected)}")
            if len(shape) > 1 and not name.endswith(TYPES):
                raise CardError(
                    f"{place}: {name!r} would replace a whole matrix of the base; a card changes those by "
                    "low-rank factors, and the embedding by rows"
                )
            continue
        layer = layer or name.removesuffix(ROWS)
        expected = base.get(f"{layer}.weight", base.get(EMBEDDING) if layer == HEAD else None)
        if expected is None or len(expected) != 2:
            raise CardError(f"{place}: the base has no layer {layer!r}")
        axis = 0 if name.endswith(B) else 1
        if shape[0 if name.endswith(B) else 1] != expected[axis]:
            raise CardError(f"{place}: {name!r} is {list(shape)}, and the layer of the base {list(expected)}")
        if name.endswith(ROWS) and max(card.row_ids) >= expected[0]:
            raise CardError(f"{place}: row {max(card.row_ids)} of an embedding with {expected[0]}")


def _check_sides(shapes: Shapes, base: Shapes, place: str) -> None:
    sides = {name: shape for name, shape in shapes.items() if side_of(name)}
    blocks = {found[1] for name in base if (found := re.match(r"(.*?\.\d+)\.", name))}
    for name, shape in sides.items():
        if side_of(name) not in blocks or EMBEDDING not in base:
            raise CardError(f"{place}: the base takes no side block behind {side_of(name)!r}")
        width, axis = base[EMBEDDING][1], 1 if name.endswith(SIDE_DOWN) else 0
        if shape[axis] != width:
            raise CardError(f"{place}: {name!r} is {list(shape)}, and the stream of the base {width} wide")
    numbers, of_base = (sum(map(math.prod, some.values())) for some in (sides, base))
    if numbers > (most := of_base // MOST_SIDE_SHARE):
        raise CardError(
            f"{place}: its side blocks have {numbers:,} numbers, expected at most {most:,}, one in "
            f"{MOST_SIDE_SHARE} of the base's"
        )


def _rounded_together(tensors: Iterable[tuple[str, Tensor]], group_size: int) -> Iterator[tuple[str, Tensor]]:
    """Both factors of each layer as codes of few bits; one without the other, or beside it, as it is."""
    waiting: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors:
        layer = layer_of(name)
        if layer is None or (isinstance(tensor, Codes) and tensor.bits == _FEW_BITS):
            yield name, tensor
        elif layer not in waiting or waiting[layer][0] == name:
            if layer in waiting:
                yield waiting[layer]
            waiting[layer] = name, tensor
        else:
            both = dict([waiting.pop(layer), (name, tensor)])
            a, b = (np.asarray(values_of(both[layer + part]), np.float32) for part in (A, B))
            _check_finite(layer + A, a)
            _check_finite(layer + B, b)
            if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                yield from both.items()
                continue
            yield from zip((layer + A, layer + B), round_factors(a, b, _FEW_BITS, group_size), strict=True)
    yield from waiting.values()


def _add(writer: WeightWriter, name: str, tensor: Tensor, bits: int | None, group_size: int) -> None:
    if isinstance(tensor, Codes):
        _check_finite(name, tensor.scales)
        if bits is None or bits == tensor.bits:
            writer.add_codes(
                name, tensor.codes, tensor.scales, tensor.zero_points, tensor.bits, tensor.group_size
            )
            return
        tensor = values_of(tensor)
    _check_finite(name, tensor)
    if bits is None:
        writer.add_plain(name, np.ascontiguousarray(tensor))
        return
    fits = group_size and tensor.shape[1] % group_size == 0
    writer.add_quantized(name, np.ascontiguousarray(tensor), bits, group_size if fits else 0)


def _check_finite(name: str, values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        raise CardError(f"tensor {name!r} holds NaN or infinities")
