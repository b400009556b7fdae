"""The cards that the passes of a model use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
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

MODES = frozenset({"diffusion", "reader"})
"""Ways of their own to use a model, which cards of that kind bring."""

_AR = "ar"

_KEPT_MIXES = 4

_Cards = dict[str, "tuple[Card, float]"]
"""Cards and their weights, by name."""

_Used = tuple["tuple[Card, float]", ...]

_Prepare = Callable[[_Used], Adapter]


@dataclass(frozen=True)
class CardsInUse(Generic[Adapter]):
    """What passes use that belong together.

    Attributes:
        adapter: the cards, as a backend applies them; None without any.
        cards: the cards and their weights.
    """

    adapter: Adapter | None
    cards: _Used

    @property
    def descriptions(self) -> tuple[CardDescription, ...]:
        """What they say of themselves."""
        return tuple(card.description for card, _ in self.cards)


class AttachedCards(Generic[Adapter]):
    """Cards by name, with their weights; safe to change from several threads.

    A call uses what is attached when it begins. The model itself is never changed. A card for one mode
    serves that mode alone: one backbone writes by diffusion with it, and from left to right without; another
    reads with it, and embeds without.

    Args:
        prepare: makes of cards and their weights what the passes of a model use.
        config: the model's metadata.
    """

    def __init__(self, prepare: _Prepare[Adapter], config: ModelMetadata) -> None:
        self._config = config
        self._adapter_of = _keeping(prepare)
        self._attached = self._mix({})
        self._change = threading.Lock()
        # What a `using` block put in place of what is attached.
        self._here: ContextVar[_Mix[Adapter] | None] = ContextVar("cards", default=None)

    @property
    def adapter(self) -> Adapter | None:
        """What a pass of this thread or task uses that is of no mode."""
        return self.in_use().adapter

    def in_use(self, mode: str | None = None) -> CardsInUse[Adapter]:
        """What a pass of this thread or task uses.

        Args:
            mode: one of `MODES`, or None.
        """
        return (self._here.get() or self._attached).in_use(mode)

    @property
    def weights(self) -> dict[str, float]:
        """What is attached: names and weights, in the order of attaching."""
        return {name: weight for name, (_, weight) in self._attached.cards.items()}

    def adopt(self, card: Card) -> None:
        """Attach the card that belongs to a model's folder. It is prepared when a pass first uses it.

        Raises:
            CardError: as of `attach`.
        """
        with self._change:
            self._attached = self._mix(self._with(self._attached.cards, card, 1.0))

    def attach(self, card: Card | str | os.PathLike[str], weight: float = 1.0) -> None:
        """Use a card from now on, mixed with those attached before.

        Args:
            card: a card, or its file.
            weight: how much of it; 1 is all, 0 is nothing.

        Raises:
            CardError: it is of another base or mode, does not fit, or a card of its name is attached.
        """
        with self._change:
            self._attached = self._mix(self._with(self._attached.cards, card, weight)).prepared()

    def detach(self, name: str) -> None:
        """Use a card no longer.

        Raises:
            CardError: none of that name is attached.
        """
        with self._change:
            attached = self._attached.cards
            if name not in attached:
                known = ", ".join(attached) or "none"
                raise CardError(f"card {name!r} is not attached; attached: {known}")
            self._attached = self._mix({other: card for other, card in attached.items() if other != name})

    @contextmanager
    def using(self, card: Card | str | os.PathLike[str], weight: float = 1.0) -> Iterator[None]:
        """Use a card within a `with` block, in this thread or task alone, beside those in use there before.

        Raises:
            CardError: as of `attach`.
        """
        here = self._here.get() or self._attached
        token = self._here.set(self._mix(self._with(here.cards, card, weight)).prepared())
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
        self._check_mode(cards, card)
        return {**cards, card.name: (card, float(weight))}

    def _check_mode(self, cards: _Cards, card: Card) -> None:
        """Refuse a card for a mode in which the model does not work, or works with another card."""
        mode = card.description.mode
        if mode == _AR and self._config.diffusion is not None:
            raise CardError(
                f"card {card.name!r} is for the mode {_AR!r}, and this model writes in the mode 'diffusion' "
                "alone; attach a card that was trained for it"
            )
        learned_on = card.description.config.get("learned_on")
        if mode not in MODES or not isinstance(learned_on, Mapping):
            return
        there = [other for other, _ in cards.values() if other.description.kind == mode]
        if any(other.sha256 == learned_on.get("sha256") for other in there):
            return
        writes = f"in the mode {mode!r} by {there[0].name!r}" if there else f"in the mode {_AR!r} alone"
        raise CardError(
            f"card {card.name!r} is for the mode {mode!r} on the card {learned_on.get('name')!r}, and this "
            f"model writes {writes}; attach that card first, or use the model that it belongs to"
        )

    def _mix(self, cards: _Cards) -> _Mix[Adapter]:
        return _Mix(cards, self._adapter_of)


def _keeping(prepare: _Prepare[Adapter]) -> _Prepare[Adapter]:
    """The last few adapters are kept.

    Whoever uses a card for one request after the other uses one adapter: keys are computed with it, and steps
    captured. It is no method: what is attached would hold its holder, and a closed engine its weights until
    cycles are collected.
    """
    kept, preparing = lru_cache(_KEPT_MIXES)(prepare), threading.Lock()

    def adapter_of(cards: _Used) -> Adapter:
        with preparing:
            return kept(cards)

    return adapter_of


class _Mix(Generic[Adapter]):
    """Cards that are used together, and what each mode uses of them: its own, and those that are of none."""

    def __init__(self, cards: _Cards, prepare: _Prepare[Adapter]) -> None:
        self.cards = cards
        self._prepare = prepare
        self._in_use: dict[str | None, CardsInUse[Adapter]] = {}

    def prepared(self) -> _Mix[Adapter]:
        """Itself, with everything that a pass needs: faults show now."""
        for mode in (None, *MODES):
            self.in_use(mode)
        return self

    def in_use(self, mode: str | None) -> CardsInUse[Adapter]:
        """What a mode uses."""
        found = self._in_use.get(mode)
        if found is None:
            serve = (None, mode or _AR)
            used = tuple(one for one in self.cards.values() if one[0].description.mode in serve)
            adapter = self._prepare(used) if used else None
            # Whoever else made it has the same adapter: equal cards share one.
            found = self._in_use[mode] = CardsInUse(adapter, used)
        return found
