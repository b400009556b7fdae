"""A decoder's passes as a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.diffusion.denoiser import Ask, Predictions
from ai_os_diffusion.inference.attached_cards import CardsInUse
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["SessionDenoiser"]

Ids = NDArray[np.int32]
Rows = NDArray[np.int64]


class SessionDenoiser:
    """Predicts masked tokens with the sessions of a core; see `Denoiser` for what is promised.

    Where finished text is blind to what follows it, its keys are kept. Where all sees all, every pass reads
    the whole text.

    Args:
        core: the network.
        cards: what its passes use.
        settings: how it was trained.
        end_ids: tokens that end a text.
        guidance_scale: how far predictions are led away from those of the unguided prompt; 1 is not at all.
        forbidden: tokens that are never written; the mask is none in any case.
    """

    def __init__(
        self,
        core: InferenceCore,
        cards: CardsInUse[Any],
        settings: DiffusionSettings,
        end_ids: frozenset[int],
        *,
        guidance_scale: float = 1.0,
        forbidden: Sequence[int] = (),
    ) -> None:
        self._core, self._cards, self._settings, self._scale = core, cards, settings, guidance_scale
        self._forbidden = sorted({settings.mask_id, *forbidden})
        self.mask_id, self.null_id, self.end_ids = settings.mask_id, settings.null_id, end_ids
        self.window = core.config.max_position_embeddings

    def read(
        self,
        prompt: Ids,
        *,
        room: int,
        temperature: float,
        seed: int,
        top_k: int,
        unguided: Ids | None = None,
    ) -> _Text:
        """As `Denoiser.read`."""
        sampler = _native.Sampler(temperature=temperature, seed=seed)
        text = self._text(len(prompt) + room, sampler, top_k)
        text.begin(prompt)
        if unguided is not None and self._scale != 1:
            if self._settings.shift and self._settings.attention != "full":
                raise SamplingError("a model that shifts and keeps what it read cannot be guided")
            text.other = self._text(len(unguided) + room, _native.Sampler(), 0)
            text.other.begin(unguided)
        return text

    def _text(self, room: int, sampler: _native.Sampler, top_k: int) -> _Text:
        session = self._core.session(room, self._cards)
        return _Text(session, self._settings, room, sampler, top_k, self._forbidden)

    def predict(self, asked: Sequence[Ask]) -> list[Predictions]:
        """As `Denoiser.predict`."""
        frames = [_Frame(ask) for ask in asked]
        passed = [frame for frame in frames if len(frame.rows)]
        guided = [frame for frame in passed if frame.text.other is not None]
        plain = [frame for frame in passed if frame.text.other is None]
        for some, is_guided in ((plain, False), (guided, True)):
            if some:
                self._run(some, is_guided)
        return [frame.result() for frame in frames]

    def _run(self, frames: Sequence[_Frame], is_guided: bool) -> None:
        """One pass for several texts, and for the unguided twins of those that are guided."""
        others = [frame.text.other.session for frame in frames if frame.text.other is not None]
        sessions = [frame.text.session for frame in frames]
        found = sessions[0].predict_all(
            sessions,
            [frame.ids for frame in frames],
            [frame.rows for frame in frames],
            [frame.text.sampler for frame in frames],
            top_k=max(frame.text.top_k for frame in frames),
            forbidden=self._forbidden,
            allowed=[frame.allowed for frame in frames],
            guidance=(self._scale, others, [frame.other_ids for frame in frames]) if is_guided else None,
        )
        for frame, one in zip(frames, found, strict=True):
            frame.found = _predictions(one, frame.text.top_k)


class _Text:
    """What was read of a text. Where all sees all that is its ids alone."""

    def __init__(
        self,
        session: Any,
        settings: DiffusionSettings,
        room: int,
        sampler: _native.Sampler,
        top_k: int,
        forbidden: list[int],
    ) -> None:
        self.settings, self.room, self.sampler, self.top_k = settings, room, sampler, top_k
        self.session = session
        self.ids = np.zeros(0, np.int32)
        self.other: _Text | None = None
        # Of the first position of the next block, where states predict the token behind them.
        self.before: Predictions | None = None
        self._forbidden = forbidden

    def __len__(self) -> int:
        return len(self.ids)

    def framed(self, ids: Ids) -> Ids:
        """A block with what it sees and what is not kept: nothing, or all of the text."""
        if self.settings.attention != "full":
            return ids
        behind = self.room - len(self) - len(ids)
        return np.concatenate([self.ids, ids, np.full(behind, self.settings.mask_id, np.int32)])

    def begin(self, prompt: Ids) -> None:
        """Read the prompt."""
        length = self.settings.block_length if self.settings.attention == "block" else max(len(prompt), 1)
        for start in range(0, len(prompt), length):
            self.append(prompt[start : start + length])

    def append(self, ids: Ids) -> None:
        """As `DenoisingText.append`."""
        self.ids = np.concatenate([self.ids, ids])
        if self.settings.attention != "full":
            if self.settings.shift:
                last = np.array([len(ids) - 1])
                found = self.session.predict(
                    ids, last, self.sampler, top_k=self.top_k, forbidden=self._forbidden
                )
                self.before = _predictions(found, self.top_k)
            self.session.prefill(ids, causal=self.settings.attention == "causal")
        if self.other is not None:
            self.other.append(ids)


class _Frame:
    """What a pass computes for an ask."""

    def __init__(self, ask: Ask) -> None:
        text = ask.text
        assert isinstance(text, _Text)
        self.text = text
        self.found: Predictions | None = None
        settings = text.settings
        self.ids = text.framed(ask.ids)
        self.other_ids = text.other.framed(ask.ids) if text.other is not None else self.ids
        start = len(text) if settings.attention == "full" else 0
        places = ask.rows + start
        self._is_before = np.zeros(len(places), np.bool_)
        if settings.shift:
            self._is_before = (places == 0) & (text.before is not None)
            places = np.maximum(places - 1, 0)
        self.rows, self._back = np.unique(places[~self._is_before], return_inverse=True)
        if any(self._is_before[at] for at in ask.allowed):
            raise SamplingError("the first token of a block cannot be held to some in a model that shifts")
        index = np.cumsum(~self._is_before) - 1
        self.allowed = [(int(self._back[index[at]]), tokens.tolist()) for at, tokens in ask.allowed.items()]

    def result(self) -> Predictions:
        """What was found, in the order of the ask's rows."""
        found, before = self.found, self.text.before
        parts = []
        for name in ("ids", "confidence", "entropy", "top_ids", "top_confidence"):
            own = None if found is None else getattr(found, name)
            first = None if before is None else getattr(before, name)
            like = first if own is None else own
            assert like is not None
            values = np.empty((len(self._is_before), *like.shape[1:]), like.dtype)
            if own is not None:
                values[~self._is_before] = own[self._back]
            if first is not None:
                values[self._is_before] = first
            parts.append(values)
        return Predictions(*parts)


def _predictions(found: Any, top_k: int) -> Predictions:
    """What a session returned; of the most probable tokens as many as a text asked for."""
    ids, confidence, entropy, top_ids, top_confidence, _ = found
    return Predictions(ids, confidence, entropy, top_ids[:, :top_k], top_confidence[:, :top_k])
