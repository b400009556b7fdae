"""A denoiser whose predictions are scored anew by what they do to the energy of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion.denoiser import Ask, Denoiser, DenoisingText, Predictions, Reading
from ai_os_diffusion.inference.constraints.constraint import OPEN
from ai_os_diffusion.inference.constraints.constraint_set import ConstraintSet, Drawing
from ai_os_diffusion.inference.constraints.token_texts import TokenTexts
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer

__all__ = ["ConstrainedDenoiser", "constrained"]

Ids = NDArray[np.int32]
_CANDIDATES = 16
"""Most probable tokens that are looked at for a position."""
_UNTOLD = 0.1
"""Share of the least probability that is told which a token has whose own is not."""


def constrained(
    denoiser: Denoiser, tokenizer: FastTokenizer, drawing: Drawing | None, *, stops: bool
) -> Denoiser:
    """A denoiser that is held to the constraints of a call, if it has any.

    Args:
        denoiser: predicts.
        tokenizer: the model's.
        drawing: what the text has to satisfy, with the weight of this attempt.
        stops: whether an end token ends the text.
    """
    if drawing is None:
        return denoiser
    return ConstrainedDenoiser(
        denoiser,
        drawing.constraints,
        TokenTexts(tokenizer),
        energy=drawing.energy,
        candidates=_CANDIDATES,
        stops=stops,
    )


@dataclass
class _Held:
    """A text as the denoiser below has read it.

    Attributes:
        text: that.
        top_k: alternatives that were asked for.
        room: positions of all blocks.
        done: finished blocks, one behind the other.
    """

    text: DenoisingText
    top_k: int
    room: int
    done: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.text)


class ConstrainedDenoiser:
    """Predictions of another denoiser, in which p(token) is p * exp(-energy * (E(text with it) - E(text))).

    E is the energy of the text with its open positions. A phrase that is required also costs where no run of
    open positions is left that has room for it. Rows are looked at from the surest on, each with those before
    it as if they were written, since a sampler may commit them together.

    Args:
        denoiser: predicts; `mask_id` and the others are its.
        constraints: what the text has to satisfy.
        texts: of tokens.
        energy: weight of energies, in nats.
        candidates: most probable tokens to look at for each position.
        stops: whether an end token ends the text.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        constraints: ConstraintSet,
        texts: TokenTexts,
        *,
        energy: float,
        candidates: int,
        stops: bool,
    ) -> None:
        self._denoiser, self._constraints, self._texts = denoiser, constraints, texts
        self._energy, self._candidates = energy, candidates
        self.mask_id, self.null_id, self.end_ids = denoiser.mask_id, denoiser.null_id, denoiser.end_ids
        self.leaves_end, self.window = denoiser.leaves_end, denoiser.window
        self._ends = self.end_ids if stops else frozenset()
        # Inside a text its tokens hold the blank before it, at the beginning they do not.
        self._spelled = {one: (texts.ids(one), texts.ids(f" {one}")) for one in constraints.required}

    def read(self, asked: Sequence[Reading]) -> list[_Held]:
        """As `Denoiser.read`."""
        told = [replace(one, top_k=max(one.top_k, self._candidates)) for one in asked]
        found = self._denoiser.read(told)
        return [_Held(text, one.top_k, one.room) for text, one in zip(found, asked, strict=True)]

    def append(self, texts: Sequence[_Held], blocks: Sequence[Ids]) -> None:
        """As `Denoiser.append`."""
        self._denoiser.append([held.text for held in texts], blocks)
        for held, block in zip(texts, blocks, strict=True):
            held.done += block.tolist()

    def predict(self, asked: Sequence[Ask]) -> list[Predictions]:
        """As `Denoiser.predict`."""
        helds: list[Any] = [ask.text for ask in asked]
        found = self._denoiser.predict(
            [replace(ask, text=held.text) for ask, held in zip(asked, helds, strict=True)]
        )
        return [self._scored(*one) for one in zip(helds, asked, found, strict=True)]

    def _scored(self, held: _Held, ask: Ask, found: Predictions) -> Predictions:
        begin = len(held.done)
        canvas = [*held.done, *ask.ids.tolist()]
        canvas += [self.mask_id] * (held.room - len(canvas))
        ids, confidence = found.ids.copy(), found.confidence.copy()
        energy = self._energy_of(canvas)
        for at in np.argsort(-found.confidence, kind="stable").tolist():
            row = begin + int(ask.rows[at])
            before, costs = canvas[row], {}
            for id in self._likely(found, at, canvas, row, ask.allowed.get(at)):
                canvas[row] = id
                costs[id] = self._energy_of(canvas) - energy
                if costs[id] <= 0:
                    break
            told = dict(zip(found.top_ids[at].tolist(), found.top_confidence[at].tolist(), strict=True))
            told[int(found.ids[at])] = float(found.confidence[at])
            least = min(told.values()) * _UNTOLD
            shares = {
                id: told.get(id, least) * float(np.exp(-self._energy * cost)) for id, cost in costs.items()
            }
            chosen = max(shares, key=lambda id: shares[id])
            # What was not looked at keeps its share of the whole.
            rest = max(1.0 - sum(told.get(id, least) for id in shares), 0.0)
            if costs[chosen] > 0 or chosen != ids[at]:
                ids[at] = chosen
                confidence[at] = shares[chosen] / max(rest + sum(shares.values()), 1e-30)
            canvas[row] = chosen
            energy += costs[chosen]
            # A position that stood before is asked for to be looked at again, not to be written.
            if before != self.mask_id:
                canvas[row] = before
                energy = self._energy_of(canvas)
        return replace(
            found,
            ids=ids,
            confidence=confidence,
            top_ids=found.top_ids[:, : held.top_k],
            top_confidence=found.top_confidence[:, : held.top_k],
        )

    def _likely(
        self, found: Predictions, at: int, canvas: list[int], row: int, allowed: Ids | None
    ) -> list[int]:
        """Tokens for a row: the one chosen, the most probable, those of a phrase still to come."""
        likely = [int(found.ids[at]), *found.top_ids[at].tolist()]
        for phrase in self._missing(canvas):
            for tokens, starts in self._places(canvas, phrase):
                likely += [tokens[row - start] for start in starts if 0 <= row - start < len(tokens)]
        is_free = allowed is None
        return [
            id
            for id in dict.fromkeys(likely)
            if id != self.mask_id and (is_free or id in (allowed if allowed is not None else ()))
        ]

    def _energy_of(self, canvas: list[int]) -> float:
        """The energy of a text, with a required phrase that no place is left for."""
        ended = self._to_its_end(canvas)
        lost = sum(
            not any(starts for _, starts in self._places(canvas, one)) for one in self._missing(canvas)
        )
        return self._constraints.energy(self._runs(ended)) + (lost if self.mask_id in ended else 0)

    def _missing(self, canvas: list[int]) -> list[str]:
        if not self._spelled:
            return []
        runs = [run for run in self._runs(self._to_its_end(canvas)) if run is not OPEN]
        return self._constraints.missing(runs)

    def _places(self, canvas: list[int], phrase: str) -> list[tuple[list[int], list[int]]]:
        """Where the tokens of a phrase may stand: each way to spell it with the places where it may begin."""
        ended = self._to_its_end(canvas)
        first, inside = self._spelled[phrase]

        def fits(start: int, tokens: list[int]) -> bool:
            own = ended[start : start + len(tokens)]
            return len(own) == len(tokens) and all(
                one in (self.mask_id, token) for one, token in zip(own, tokens, strict=True)
            )

        starts = [start for start in range(1, len(ended) - len(inside) + 1) if fits(start, inside)]
        return [(first, [0] if fits(0, first) else []), (inside, starts)]

    def _to_its_end(self, canvas: list[int]) -> list[int]:
        end = next((at for at, id in enumerate(canvas) if id in self._ends), len(canvas))
        return canvas[:end]

    def _runs(self, ids: list[int]) -> list[str | None]:
        """A text as constraints take it."""
        runs: list[str | None] = []
        for is_open, own in groupby((id for id in ids if id != self.null_id), lambda id: id == self.mask_id):
            runs.append(OPEN if is_open else self._texts.text(list(own)))
        return runs
