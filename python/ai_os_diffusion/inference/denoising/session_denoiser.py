"""A decoder's passes as a denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.diffusion.denoiser import Ask, Predictions, Reading
from ai_os_diffusion.inference.attached_cards import CardsInUse
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["SessionDenoiser"]

Ids = NDArray[np.int32]
Rows = NDArray[np.int64]

_ARRAYS = tuple(one.name for one in fields(Predictions) if one.name != "is_known")


class SessionDenoiser:
    """Predicts masked tokens with the sessions of a core; see `Denoiser` for what is promised.

    Where finished text is blind to what follows it, its keys are kept and exact. Where all sees all, a pass
    reads the whole text, or what is not kept of it since the first pass of its block
    (`DiffusionSettings.cache`).

    Args:
        core: the network.
        cards: what its passes use.
        settings: how it was trained.
        end_ids: tokens that end a text.
        guidance_scale: how far predictions are led away from those of the unguided prompt; 1 is not at all.
        forbidden: tokens that are never written; the mask is none in any case.
        filters: of the tokens that are drawn, as `_native.Sampler` takes them.
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
        filters: Mapping[str, Any] | None = None,
    ) -> None:
        self._core, self._cards, self._settings, self._scale = core, cards, settings, guidance_scale
        self._forbidden = sorted({settings.mask_id, *forbidden})
        self._filters = dict(filters or {})
        self.mask_id, self.null_id, self.end_ids = settings.mask_id, settings.null_id, end_ids
        # Models of others write as their papers say: all of a block is predicted, to its end.
        self.leaves_end = settings.attention in ("prefix", "causal")
        self.window = core.config.max_position_embeddings

    def read(self, asked: Sequence[Reading]) -> list[_Text]:
        """As `Denoiser.read`."""
        found = [self._begun(reading) for reading in asked]
        length = self._settings.block_length if self._settings.attention == "block" else 0
        prompts = [_parts(reading.prompt, length) for reading in asked]
        for text, reading in zip(found, asked, strict=True):
            if text.other is not None and reading.unguided is not None:
                prompts.append(_parts(reading.unguided, length))
        everyone = [*found, *(text.other for text in found if text.other is not None)]
        for parts in zip_longest(*prompts):
            reached = [(text, part) for text, part in zip(everyone, parts, strict=True) if part is not None]
            self._append([text for text, _ in reached], [part for _, part in reached])
        return found

    def append(self, texts: Sequence[_Text], blocks: Sequence[Ids]) -> None:
        """As `Denoiser.append`."""
        pairs = list(zip(texts, blocks, strict=True))
        pairs += [(text.other, block) for text, block in pairs if text.other is not None]
        self._append([text for text, _ in pairs], [block for _, block in pairs])

    def _append(self, texts: Sequence[_Text], parts: Sequence[Ids]) -> None:
        """Read a part behind each text, its tokens seeing each other if the model's do."""
        for text, part in zip(texts, parts, strict=True):
            text.ids = np.concatenate([text.ids, part])
            text.is_fresh = True
        if not texts or self._settings.attention == "full":
            return
        is_causal, sessions = self._settings.attention == "causal", [text.session for text in texts]
        if not self._settings.shift:
            self._read_or_wait(texts, parts, is_causal)
            return
        if is_causal:
            # The last sees all others in any case: the pass that predicts reads it.
            type(sessions[0]).prefill_all(sessions, [part[:-1] for part in parts], causal=True)
            parts = [part[-1:] for part in parts]
        self._read_and_predict(texts, parts)

    def _read_or_wait(self, texts: Sequence[_Text], parts: Sequence[Ids], is_causal: bool) -> None:
        """Read a part behind each text: where it sees itself, in the pass that predicts what follows."""
        now = [(text, text.unread) for text in texts if len(text.unread)]
        for text, part in zip(texts, parts, strict=True):
            waits = not is_causal and not text.is_guided
            text.unread = part if waits else part[:0]
            if not waits:
                now.append((text, part))
        if now:
            sessions = [text.session for text, _ in now]
            type(sessions[0]).prefill_all(sessions, [part for _, part in now], causal=is_causal)

    def _read_and_predict(self, texts: Sequence[_Text], parts: Sequence[Ids]) -> None:
        """Read a part behind each text, and predict the token behind it from its last state."""
        sessions = [text.session for text in texts]
        found = type(sessions[0]).predict_all(
            sessions,
            parts,
            [np.array([len(part) - 1]) for part in parts],
            [text.sampler for text in texts],
            top_k=max(text.top_k for text in texts),
            forbidden=self._forbidden,
            places=[(np.zeros(0, np.int32), len(part)) for part in parts],
        )
        for text, one in zip(texts, found, strict=True):
            text.before = _predictions(one, text.top_k)

    def _begun(self, reading: Reading) -> _Text:
        sampler = _native.Sampler(temperature=reading.temperature, seed=reading.seed, **self._filters)
        text = self._text(len(reading.prompt) + reading.room, sampler, reading.top_k)
        if reading.unguided is not None and self._scale != 1:
            if self._settings.shift and self._settings.attention != "full":
                raise SamplingError(
                    "guidance_scale: a model that predicts the token behind each state, and keeps what it "
                    "read, cannot be guided"
                )
            text.other = self._text(len(reading.unguided) + reading.room, _native.Sampler(), 0)
            # The prompts differ in length, and the blocks behind them go through a pass together.
            text.is_guided = text.other.is_guided = True
        return text

    def _text(self, room: int, sampler: _native.Sampler, top_k: int) -> _Text:
        session = self._core.session(room, self._cards)
        return _Text(session, self._settings, room, sampler, top_k)

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
            [frame.layout.ids for frame in frames],
            [frame.rows for frame in frames],
            [frame.text.sampler for frame in frames],
            top_k=max(frame.text.top_k for frame in frames),
            forbidden=self._forbidden,
            allowed=[frame.allowed for frame in frames],
            guidance=(self._scale, others, [frame.other_ids for frame in frames]) if is_guided else None,
            places=[(frame.layout.positions, frame.layout.keep) for frame in frames],
            prefix=self._settings.attention != "full",
        )
        for frame, one in zip(frames, found, strict=True):
            frame.text.unread = frame.text.unread[:0]
            frame.found = _predictions(one, frame.text.top_k)


def _parts(prompt: Ids, length: int) -> list[Ids]:
    """A prompt as it is read: in blocks where they are counted from its beginning, else as a whole."""
    step = length or max(len(prompt), 1)
    return [prompt[start : start + step] for start in range(0, len(prompt), step)]


class _Layout:
    """The tokens of a pass.

    Attributes:
        ids: int32[n].
        start: where among them the block begins.
        border: where the token before it stands; None where it is no part of the pass.
        positions: int32[n]; none for those behind what was read.
        keep: tokens whose keys stay.
    """

    def __init__(self, ids: Sequence[Ids], start: int, border: int | None, *, keep: int = 0) -> None:
        self.ids = np.concatenate(ids) if len(ids) > 1 else ids[0]
        self.start, self.border, self.keep = start, border, keep
        self.positions = np.zeros(0, np.int32)


class _Text:
    """What was read of a text.

    Attributes:
        session: keeps keys; where all sees all those that stay while a block is written.
        ids: int32[n], the prompt and finished blocks.
        other: the same text without what its prompt tells.
        is_guided: there is such another, or it is one.
        unread: int32[m], the last of `ids`, if they are to be read in the pass that predicts what follows.
        before: of the first position of the next block, where the state that predicts it is no part of its
        passes.
        is_fresh: no pass of the block was computed yet.
    """

    def __init__(
        self,
        session: Any,
        settings: DiffusionSettings,
        room: int,
        sampler: _native.Sampler,
        top_k: int,
    ) -> None:
        self.settings, self.room, self.sampler, self.top_k = settings, room, sampler, top_k
        self.session = session
        self.ids = np.zeros(0, np.int32)
        self.other: _Text | None = None
        self.is_guided = False
        self.unread = self.ids
        self.before: Predictions | None = None
        self.is_fresh = True

    def __len__(self) -> int:
        return len(self.ids)

    def layout(self, block: Ids) -> _Layout:
        """What a pass over a block reads: all that is not kept of what the block sees."""
        if self.settings.attention != "full":
            unread = len(self.unread)
            return _Layout([self.unread, block], unread, None, keep=unread)
        done, end = len(self), len(self) + len(block)
        behind = np.full(self.room - end, self.settings.mask_id, np.int32)
        cache, border = self.settings.cache, done - 1 if done else None
        if cache == "none":
            return _Layout([self.ids, block, behind], done, border)
        if not self.is_fresh:
            if cache == "prefix":
                return _Layout([block, behind], 0, None)
            later = _Layout([block], 0, None)
            later.positions = np.arange(done, end, dtype=np.int32)
            return later
        self.session.truncate(0)
        if cache == "prefix":
            return _Layout([self.ids, block, behind], done, border, keep=done)
        # All see each other: their order is free, and what stays stands first.
        first = _Layout(
            [self.ids, behind, block], self.room - len(block), border, keep=self.room - len(block)
        )
        order = [np.arange(done), np.arange(end, self.room), np.arange(done, end)]
        first.positions = np.concatenate(order).astype(np.int32)
        return first


class _Frame:
    """What a pass computes for an ask."""

    def __init__(self, ask: Ask) -> None:
        text = ask.text
        assert isinstance(text, _Text)
        self.text = text
        self.found: Predictions | None = None
        ids = ask.ids[: ask.length]
        self.layout = text.layout(ids)
        self.other_ids = self.layout.ids if text.other is None else text.other.layout(ids).ids
        self._is_kept = text.settings.cache != "none" and text.is_fresh
        for one in (text, text.other):
            if one is not None:
                one.is_fresh = False
        places = ask.rows + self.layout.start
        is_first = (ask.rows == 0) & text.settings.shift
        self._is_before = is_first & (self.layout.border is None) & (text.before is not None)
        if text.settings.shift:
            # The state before each row; a text's first token is predicted by its own.
            first = self.layout.start if self.layout.border is None else self.layout.border
            places = np.where(is_first, first, places - 1)
        if any(self._is_before[at] for at in ask.allowed):
            raise SamplingError("the first token of a block cannot be held to some in a model that shifts")
        wanted = places[~self._is_before]
        # What the border predicts is known from this pass alone.
        remembers = self._is_kept and text.settings.shift and self.layout.border is not None
        border = [self.layout.border] if remembers else []
        self.rows, back = np.unique(np.concatenate([border, wanted]).astype(np.int64), return_inverse=True)
        self._border, self._back = back[: len(border)], back[len(border) :]
        index = np.cumsum(~self._is_before) - 1
        self.allowed = [(int(self._back[index[at]]), tokens.tolist()) for at, tokens in ask.allowed.items()]

    def result(self) -> Predictions:
        """What was found, in the order of the ask's rows."""
        found, text = self.found, self.text
        if found is not None and len(self._border):
            text.before = Predictions(**{name: getattr(found, name)[self._border] for name in _ARRAYS})
        parts: dict[str, Any] = {}
        for name in _ARRAYS:
            own = None if found is None else getattr(found, name)
            first = None if text.before is None else getattr(text.before, name)
            like = first if own is None else own
            assert like is not None
            values = np.empty((len(self._is_before), *like.shape[1:]), like.dtype)
            if own is not None:
                values[~self._is_before] = own[self._back]
            if first is not None:
                values[self._is_before] = first
            parts[name] = values
        return Predictions(**parts, is_known=found is None)


def _predictions(found: Any, top_k: int) -> Predictions:
    """What a session returned; of the most probable tokens as many as a text asked for."""
    ids, confidence, entropy, top_ids, top_confidence, _ = found
    return Predictions(ids, confidence, entropy, top_ids[:, :top_k], top_confidence[:, :top_k])
