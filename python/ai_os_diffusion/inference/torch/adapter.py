"""Cards as the torch backend applies them: factors, side blocks, replaced vectors and rows, heads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ai_os_diffusion.inference.decoder_layers import Linear
from ai_os_diffusion.models.cards.card import MOST_SIDE_SHARE
from ai_os_diffusion.models.cards.names import MAGNITUDE, ROW_SCALE, SIDE_DOWN, SIDE_UP, side_of
from ai_os_diffusion.utils.errors import CardError

if TYPE_CHECKING:
    from ai_os_diffusion.models.cards import Card

__all__ = ["NO_CARDS", "Adapter", "Cards", "Sites"]

Tensor = Any
Numbers = NDArray[np.float32]

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Sites:
    """What of a network a card may change.

    Attributes:
        hidden: width of a state.
        linears: all linear layers, the head of a decoder among them.
        vectors: norms and token types, by name.
        embedding: the rows of a decoder's embedding, [vocab, width].
        rows_name: what a card calls rows of the embedding.
        blocks: those behind which a card may have side blocks, by name.
        parameters: numbers of the network.
        eps: of its norms.
    """

    hidden: int
    linears: Sequence[Linear]
    vectors: Mapping[str, Tensor]
    embedding: Tensor | None
    rows_name: str
    blocks: Sequence[str] = ()
    parameters: int = 0
    eps: float = 0.0

    def find(self, layer: str) -> tuple[Linear, int] | None:
        """The product that a layer is part of, and which part it is."""
        for linear in self.linears:
            if layer in linear.layers:
                return linear, linear.layers.index(layer)
        return None


@dataclass
class _Factors:
    """Rows of A, and columns of `scale · B` that are zero where outputs are of other layers.

    `gain` is how many times what the layer itself gives is added to it, [outputs], where cards scale rows.
    """

    a: list[Tensor] = field(default_factory=list)
    b: list[Tensor] = field(default_factory=list)
    gain: Tensor | None = None


class Adapter:
    """One or several cards, mixed by their weights, for one network. The network itself stays as it is.

    Args:
        sites: of the network.
        cards: with their weights.

    Raises:
        CardError: a card does not fit the network, or two contradict each other.
    """

    def __init__(self, sites: Sites, cards: Iterable[tuple[Card, float]]) -> None:
        self.number = next(_NUMBERS)
        self._sites = sites
        self.vectors: dict[str, Tensor] = {}
        self.heads: dict[str, tuple[Tensor, Tensor]] = {}
        self.row_ids: Tensor | None = None
        self._rows: dict[int, Tensor] = {}
        self._sides: dict[str, _Factors] = {}
        found: dict[Linear, _Factors] = {}
        for card, weight in cards:
            self._check_sides(card)
            for name in card:
                if name == sites.rows_name:
                    self._take_rows(card, name, weight)
                else:
                    self._take(card, name, weight, found)
        self.factors = {
            linear: tuple(
                torch.cat(part, axis).to(linear.weight.dtype) for axis, part in enumerate((parts.a, parts.b))
            )
            for linear, parts in found.items()
        }
        self.gains = {
            linear: parts.gain.to(linear.weight.dtype)
            for linear, parts in found.items()
            if parts.gain is not None
        }
        dtype = sites.linears[0].weight.dtype
        self.sides = {
            block: (torch.cat(parts.a).to(dtype), torch.cat(parts.b, 1).to(dtype))
            for block, parts in self._sides.items()
        }
        if self._rows and sites.embedding is not None:
            ids = sorted(self._rows)
            self.row_ids = torch.tensor(ids, device=sites.embedding.device)
            self.rows = torch.stack([self._rows[id] for id in ids])
            # Where in `rows` a token's row lies; 0 for tokens that have none, which `replaced` tells apart.
            self.place = torch.zeros(len(sites.embedding), dtype=torch.int64, device=sites.embedding.device)
            self.place[self.row_ids] = torch.arange(len(ids), device=self.place.device)
            self.replaced = torch.zeros_like(self.place, dtype=torch.bool)
            self.replaced[self.row_ids] = True

    def side(self, block: str, x: Tensor) -> Tensor:
        """What the side block behind a block adds to the stream [texts, length, hidden]; None without one.

        It is `up(gelu(down(norm(x))))` (arXiv:1902.00751); those of several cards stand side by side.
        """
        found = self.sides.get(block)
        if found is None:
            return None
        down, up = found
        narrow = F.linear(F.rms_norm(x, x.shape[-1:], None, self._sites.eps), down)
        return F.linear(F.gelu(narrow), up)

    def head(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight [outputs, hidden] and bias [outputs] of a card's head.

        Raises:
            CardError: no card has one of that name.
        """
        if name not in self.heads:
            known = ", ".join(f'"{head}"' for head in self.heads)
            raise CardError(f'no attached card has a head "{name}"; heads: [{known}]')
        return self.heads[name]

    def _take(self, card: Card, name: str, weight: float, found: dict[Linear, _Factors]) -> None:
        layer, owner = name.removesuffix(".lora_A.weight"), name.rpartition(".")[0]
        if layer != name:
            self._take_factors(card, layer, weight, found)
        elif name.endswith(".lora_B.weight"):
            _lacks_nothing(card, name.replace(".lora_B.", ".lora_A."))
        elif name.endswith(SIDE_DOWN):
            self._take_side(card, name.removesuffix(SIDE_DOWN), weight)
        elif name.endswith(SIDE_UP):
            _lacks_nothing(card, name.removesuffix(SIDE_UP) + SIDE_DOWN)
        elif name.endswith(MAGNITUDE):
            _lacks_nothing(card, name.removesuffix(MAGNITUDE) + ROW_SCALE)
        elif name.endswith(ROW_SCALE):
            _lacks_nothing(card, name.removesuffix(ROW_SCALE) + ".lora_A.weight")
        elif owner in card.description.heads:
            if name.endswith(".weight"):
                self._take_head(card, owner)
        elif name in self._sites.vectors:
            base = self._sites.vectors[name]
            numbers = self._tensor(_numbers(card, name, tuple(base.shape))).to(base.dtype)
            self.vectors[name] = self.vectors.get(name, base) + weight * (numbers - base)
        else:
            raise _fault(card, f'has a tensor "{name}", and the model has nothing of that name to change')

    def _take_factors(self, card: Card, layer: str, weight: float, found: dict[Linear, _Factors]) -> None:
        site = self._sites.find(layer)
        if site is None:
            raise _fault(card, f'has factors of a layer "{layer}", which the model does not have')
        linear, part = site
        a, b = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
        _lacks_nothing(card, b)
        rank, inputs = card.shapes[a][0], linear.weight.shape[1]
        if not rank:
            raise _fault(card, f'has factors of rank 0 for "{layer}", expected 1 or more')
        narrow = self._tensor(_numbers(card, a, (rank, inputs)))
        wide = self._tensor(_numbers(card, b, (linear.widths[part], rank)))
        placed = wide.new_zeros(sum(linear.widths), rank)
        begin = sum(linear.widths[:part])
        own = slice(begin, begin + linear.widths[part])
        factors = found.setdefault(linear, _Factors())
        if layer + ROW_SCALE in card.shapes:
            scales = self._tensor(_numbers(card, layer + ROW_SCALE, (linear.widths[part],)))
            wide = wide * scales[:, None]
            gain = wide.new_zeros(sum(linear.widths)) if factors.gain is None else factors.gain
            gain[own] += weight * (scales - 1)
            factors.gain = gain
        placed[own] = card.description.scaling * weight * wide
        factors.a.append(narrow)
        factors.b.append(placed)

    def _check_sides(self, card: Card) -> None:
        sites, numbers = self._sites, sum(math.prod(card.shapes[name]) for name in card if side_of(name))
        if numbers and not sites.blocks:
            raise _fault(card, "has side blocks, which decoders alone take, with norms before their layers")
        if numbers > (most := sites.parameters // MOST_SIDE_SHARE):
            raise _fault(
                card,
                f"has side blocks of {numbers} numbers, expected at most {most}, one in {MOST_SIDE_SHARE} of "
                f"the model's {sites.parameters}",
            )

    def _take_side(self, card: Card, block: str, weight: float) -> None:
        blocks, hidden = self._sites.blocks, self._sites.hidden
        if block not in blocks:
            last = len(blocks) - 1
            raise _fault(card, f'has a side block behind "{block}", expected blocks 0 to {last} of the model')
        _lacks_nothing(card, block + SIDE_UP)
        width = card.shapes[block + SIDE_DOWN][0]
        if not width:
            raise _fault(card, f'has a side block of width 0 behind "{block}", expected 1 or more')
        narrow = self._tensor(_numbers(card, block + SIDE_DOWN, (width, hidden)))
        wide = self._tensor(_numbers(card, block + SIDE_UP, (hidden, width)))
        side = self._sides.setdefault(block, _Factors())
        side.a.append(narrow)
        side.b.append(weight * wide)

    def _take_rows(self, card: Card, name: str, weight: float) -> None:
        embedding, ids = self._sites.embedding, card.description.row_ids
        if embedding is None:
            raise _fault(card, "replaces rows of the embedding, which of an encoder stays as it is")
        numbers = self._tensor(_numbers(card, name, (len(ids), embedding.shape[1]))).to(embedding.dtype)
        for id, row in zip(ids, numbers, strict=True):
            if id >= len(embedding):
                raise _fault(card, f"replaces row {id} of an embedding of {len(embedding)}")
            base = embedding[id]
            self._rows[id] = self._rows.get(id, base) + weight * (row - base)

    def _take_head(self, card: Card, name: str) -> None:
        if name in self.heads:
            raise _fault(card, f'has a head "{name}", as another card has')
        outputs, bias = card.shapes[f"{name}.weight"][0], f"{name}.bias"
        self.heads[name] = (
            self._tensor(_numbers(card, f"{name}.weight", (outputs, self._sites.hidden))),
            self._tensor(
                _numbers(card, bias, (outputs,)) if bias in card.shapes else np.zeros(outputs, np.float32)
            ),
        )

    def _tensor(self, numbers: Numbers) -> Tensor:
        return torch.from_numpy(np.array(numbers, np.float32)).to(self._sites.linears[0].weight.device)


class Cards:
    """Which texts of a pass use which adapter.

    Args:
        runs: neighbouring texts that use one adapter, and the adapter; texts in none use none.
        texts: of the pass.
    """

    def __init__(self, runs: Sequence[tuple[slice, Adapter]] = (), texts: int = 0) -> None:
        self.runs, self._texts = runs, texts
        self._only = runs[0][1] if len(runs) == 1 and runs[0][0] == slice(0, texts) else None

    @classmethod
    def of(cls, adapters: Sequence[Adapter | None]) -> Cards:
        """Those of the adapters of each text, where equal ones are neighbours."""
        runs, begin = [], 0
        for adapter, group in itertools.groupby(adapters):
            end = begin + len(list(group))
            if adapter is not None:
                runs.append((slice(begin, end), adapter))
            begin = end
        return cls(runs, len(adapters)) if runs else NO_CARDS

    @property
    def number(self) -> int | None:
        """That of the adapter that all texts use, -1 for none; None if they differ."""
        if not self.runs:
            return -1
        return None if self._only is None else self._only.number

    def add(self, linear: Linear, x: Tensor, out: Tensor, product: Tensor | None = None) -> None:
        """Add what cards add to a layer to `out` [texts, length, outputs].

        Args:
            linear: the layer.
            x: [texts, length, inputs].
            out: its outputs, or more than those.
            product: `x Wᵀ` where that is at hand.
        """
        for rows, adapter in self.runs:
            gain, factors = adapter.gains.get(linear), adapter.factors.get(linear)
            if gain is not None:
                out[rows].add_(
                    gain * (F.linear(x[rows], linear.weight) if product is None else product[rows])
                )
            if factors is not None:
                a, b = factors
                out[rows].add_(F.linear(F.linear(x[rows], a), b))

    def side(self, block: str, x: Tensor) -> Tensor:
        """Take the stream [texts, length, hidden] through the side blocks behind a block, in its place."""
        for rows, adapter in self.runs:
            added = adapter.side(block, x[rows])
            if added is not None:
                x[rows].add_(added)
        return x

    def vector(self, name: str, base: Tensor) -> tuple[Tensor, bool]:
        """What stands in place of a vector, and whether it is one for each text, [texts, 1, width]."""
        if self._only is not None:
            return self._only.vectors.get(name, base), False
        if not any(name in adapter.vectors for _, adapter in self.runs):
            return base, False
        mixed = base.expand(self._texts, 1, -1).clone()
        for rows, adapter in self.runs:
            mixed[rows] = adapter.vectors.get(name, base)
        return mixed, True

    def embed(self, ids: Tensor, out: Tensor) -> None:
        """Put the rows of cards in place of those of the embedding, for `ids` [texts, length]."""
        self._each(
            out,
            lambda rows, adapter: torch.where(
                adapter.replaced[ids[rows]][..., None], adapter.rows[adapter.place[ids[rows]]], out[rows]
            ),
        )

    def score(self, states: Tensor, out: Tensor) -> None:
        """Put the scores of cards' rows in place of a tied head's, for `states` [texts, length, hidden]."""
        self._each(
            out,
            lambda rows, adapter: out[rows].index_copy(
                -1, adapter.row_ids, F.linear(states[rows], adapter.rows)
            ),
        )

    def _each(self, out: Tensor, made: Callable[[slice, Adapter], Tensor]) -> None:
        for rows, adapter in self.runs:
            if adapter.row_ids is not None:
                out[rows] = made(rows, adapter)


NO_CARDS = Cards()


def _lacks_nothing(card: Card, name: str) -> None:
    if name not in card.shapes:
        raise _fault(card, f'lacks the tensor "{name}"')


def _numbers(card: Card, name: str, shape: tuple[int, ...]) -> Numbers:
    found = card.shapes[name]
    if tuple(found) != shape:
        detail = f'does not fit this model: tensor "{name}" is {list(found)}, expected {list(shape)}'
        raise _fault(card, detail)
    numbers = card[name]
    if not np.isfinite(numbers).all():
        raise _fault(card, f'has numbers that are not finite in "{name}"')
    return numbers


def _fault(card: Card, detail: str) -> CardError:
    return CardError(f'card "{card.name}" {detail}')
