"""The cards that the passes of a model use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Generic, TypeVar

from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import CardError

if TYPE_CHECKING:
    from ai_os_diffusion.models.cards import Card, CardDescription

__all__ = ["MODES", "AttachedCards", "CardsInUse"]

Adapter = TypeVar("Adapter")
"""Cards mixed by their weights, as a backend applies them."""

MODES = frozenset({"diffusion"})
"""Kinds of cards that are a way of their own to use a model: what works another way does not see them."""

_KEPT_MIXES = 4

_Cards = dict[str, "tuple[Card, float]"]
"""Cards and their weights, by name."""


@dataclass(frozen=True)
class CardsInUse(Generic[Adapter]):
    """What passes use that belong together.

    Attributes:
        adapter: the cards, as a backend applies them; None without any.
        descriptions: what they say of themselves.
    """

    adapter: Adapter | None
    descriptions: tuple[CardDescription, ...]


class AttachedCards(Generic[Adapter]):
    """Cards by name, with their weights; safe to change from several threads.

    A call uses what is attached when it begins. The model itself is never changed. A card of a kind in
    `MODES` serves that mode alone: one backbone writes by diffusion with it, and from left to right without.

    Args:
        prepare: makes of cards and their weights what the passes of a model use.
        config: the model's metadata.
    """

    def __init__(
        self, prepare: Callable[[tuple[tuple[Card, float], ...]], Adapter], config: ModelMetadata
    ) -> None:
        self._config = config
        # Whoever uses a card for one request after the other uses one adapter: keys are computed with it, and
        # steps captured.
        self._prepare = lru_cache(_KEPT_MIXES)(prepare)
        self._preparing = threading.Lock()
        self._cards: _Cards = {}
        self._modes: _Modes[Adapter] = {None: CardsInUse(None, ())}
        self._change = threading.Lock()
        # What a `using` block put in place of what is attached.
        self._here: ContextVar[tuple[_Cards, _Modes[Adapter]] | None] = ContextVar("cards", default=None)

    @property
    def adapter(self) -> Adapter | None:
        """What a pass of this thread or task uses that is of no mode."""
        return self.in_use().adapter

    def in_use(self, mode: str | None = None) -> CardsInUse[Adapter]:
        """What a pass of this thread or task uses.

        Args:
            mode: one of `MODES`, or None.
        """
        here = self._here.get()
        modes = self._modes if here is None else here[1]
        return modes.get(mode, modes[None])

    @property
    def weights(self) -> dict[str, float]:
        """What is attached: names and weights, in the order of attaching."""
        return {name: weight for name, (_, weight) in self._cards.items()}

    def attach(self, card: Card | str | os.PathLike[str], weight: float = 1.0) -> None:
        """Use a card from now on, mixed with those attached before.

        Args:
            card: a card, or its file.
            weight: how much of it; 1 is all, 0 is nothing.

        Raises:
            CardError: it is of another base, does not fit, or a card of its name is attached.
        """
        with self._change:
            cards = self._with(self._cards, card, weight)
            self._modes, self._cards = self._prepared(cards), cards

    def detach(self, name: str) -> None:
        """Use a card no longer.

        Raises:
            CardError: none of that name is attached.
        """
        with self._change:
            if name not in self._cards:
                known = ", ".join(self._cards) or "none"
                raise CardError(f"card {name!r} is not attached; attached: {known}")
            cards = {other: found for other, found in self._cards.items() if other != name}
            self._modes, self._cards = self._prepared(cards), cards

    @contextmanager
    def using(self, card: Card | str | os.PathLike[str], weight: float = 1.0) -> Iterator[None]:
        """Use a card within a `with` block, in this thread or task alone, beside those in use there before.

        Raises:
            CardError: as of `attach`.
        """
        here = self._here.get()
        cards = self._with(self._cards if here is None else here[0], card, weight)
        token = self._here.set((cards, self._prepared(cards)))
        try:
            yield
        finally:
            self._here.reset(token)

    def _with(self, cards: _Cards, card: Card | str | os.PathLike[str], weight: float) -> _Cards:
        from ai_os_diffusion.models.cards import Card  # Only whoever uses cards pays for it.

        card = card if isinstance(card, Card) else Card(card)
        if card.name in cards:
            raise CardError(f"card {card.name!r} is attached; detach it first")
        if not isfinite(weight):
            raise CardError(f"card {card.name!r}: weight is {weight}, expected a finite number")
        base, own = card.description.base, self._config
        digest = own.source.get("weights_sha256")
        if base.architecture != own.architecture or digest not in (None, base.weights_sha256):
            raise CardError(
                f"card {card.name!r} is of the base {base.name!r} ({base.architecture}, weights "
                f"{base.weights_sha256[:12]}), and this model is {own.source.get('name')!r} "
                f"({own.architecture}, weights {str(digest)[:12]}); attach it to its own base"
            )
        return {**cards, card.name: (card, float(weight))}

    def _prepared(self, cards: _Cards) -> _Modes[Adapter]:
        """What each mode uses of some cards: its own, and those that are of none."""
        modes = {card.description.kind for card, _ in cards.values()} & MODES
        return {mode: self._in_mode(cards, mode) for mode in (None, *sorted(modes))}

    def _in_mode(self, cards: _Cards, mode: str | None) -> CardsInUse[Adapter]:
        used = tuple(
            found
            for found in cards.values()
            if (kind := found[0].description.kind) == mode or kind not in MODES
        )
        if not used:
            return CardsInUse(None, ())
        with self._preparing:
            return CardsInUse(self._prepare(used), tuple(card.description for card, _ in used))


_Modes = dict[str | None, CardsInUse[Adapter]]
"""What is used, by mode."""
