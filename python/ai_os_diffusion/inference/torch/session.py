"""One text that grows, with what the network remembers of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.torch.adapter import Adapter
from ai_os_diffusion.inference.torch.choice import (
    GREEDY,
    Predictions,
    Settings,
    is_drawn,
    not_finite,
)
from ai_os_diffusion.inference.torch.kv_cache import PAGE_TOKENS
from ai_os_diffusion.inference.torch.prediction import predict_all
from ai_os_diffusion.inference.torch.prefix_cache import Place, beginning
from ai_os_diffusion.utils.errors import InferenceError, ShapeError

if TYPE_CHECKING:
    from ai_os_diffusion.inference.torch.torch_core import Texts

__all__ = ["TorchSession"]

Ids = NDArray[np.int32]
Tensor = Any

_NUMBERS = itertools.count()


class TorchSession:
    """A decoder's state after some tokens; the counterpart of `_native.Session`. Belongs to one caller.

    Args:
        texts: what the sessions of a model share.
        max_tokens: most tokens it can hold.
        adapter: the cards it is read with.

    Attributes:
        tokens: what was read.
        unread: what is to be read.
        pages: of the cache, in the order of the positions.
        sampler: the last that chose for it; the next token is chosen with it in advance.
        is_waiting: a pass is to read it, or does.
        fault: of the pass that read it last.
    """

    def __init__(self, texts: Texts, max_tokens: int, adapter: Adapter | None) -> None:
        self.number = next(_NUMBERS)
        self.tokens: list[int] = []
        self.unread: list[int] = []
        self.pages: list[int] = []
        self.sampler: _native.Sampler | None = None
        self.is_waiting = False
        self.fault: BaseException | None = None
        self.adapter, self._max_tokens = adapter, max_tokens
        self._place: Place | None = beginning(None if adapter is None else adapter.number)
        self._kept = 0
        self._logits: Tensor | None = None
        # The sampler a token was chosen for, its id, its logit, and the log of the sum of all exponentials.
        self._told: tuple[_native.Sampler | None, int, float, float] | None = None
        self._unit: float | None = None
        # One page more than its tokens fill: a page in common is copied before it is written to.
        self._promised = -(-max_tokens // PAGE_TOKENS) + 1
        self._texts: Texts | None = None
        texts.promise(self._promised)
        self._texts = texts

    def __del__(self) -> None:
        if self._texts is not None:
            self._texts.cache.return_later(self.pages, self._promised)
            self._texts.batcher.forget(self.number)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def max_tokens(self) -> int:
        """Most tokens it can hold."""
        return self._max_tokens

    @property
    def cache_bytes(self) -> int:
        """Bytes of its keys and values."""
        return len(self.pages) * self.texts.cache.page_bytes

    @property
    def texts(self) -> Texts:
        """What the sessions of a model share."""
        assert self._texts is not None
        return self._texts

    @property
    def adapter_number(self) -> int:
        """That of its cards, -1 without any."""
        return -1 if self.adapter is None else self.adapter.number

    @property
    def settings(self) -> Settings:
        """How its next token is chosen."""
        return GREEDY if self.sampler is None else self.sampler.settings

    def prefill(self, ids: Ids, causal: bool = True) -> None:
        """Read tokens behind those it has; unless causal, all of them see each other.

        Raises:
            InferenceError: an id is outside the vocabulary, or there is no room; then nothing is read.
            DeviceError: the device has no memory for it.
        """
        self.prefill_all([self], [ids], causal)

    @staticmethod
    def prefill_all(sessions: Sequence[TorchSession], ids: Sequence[Ids], causal: bool = True) -> None:
        """Read `ids[i]` behind the tokens of `sessions[i]`, all in common passes.

        Raises:
            ShapeError: not as many sessions as ids, or of several models.
            InferenceError: a session is there twice; as for `prefill`.
        """
        if not sessions:
            return
        texts = sessions[0].texts
        if len(sessions) != len(ids) or any(session.texts is not texts for session in sessions):
            raise ShapeError(
                f"pass: expected sessions of one model and ids for each, got {len(sessions)} sessions and "
                f"{len(ids)} of ids"
            )
        _refuse_twice(sessions)
        pairs = list(zip(sessions, ids, strict=True))
        for session, own in pairs:
            session.check(own)
        if causal:
            texts.batcher.read([session for session, own in pairs if session._begin(own)])
            return
        begun = [session for session, own in pairs if len(own)]
        for session, own in pairs:
            if len(own):
                # Its rows see each other, not only those before: no other text shares such pages.
                session._place, session.unread = None, [int(id) for id in own]
        texts.batcher.read_whole(begun)

    def predict(
        self,
        ids: Ids,
        rows: NDArray[np.int64],
        sampler: _native.Sampler | None = None,
        *,
        top_k: int = 0,
        forbidden: Sequence[int] | None = None,
        logits: bool = False,
    ) -> Predictions:
        """Rows of a block that sees itself and the tokens read so far, and leaves nothing behind.

        Args:
            ids: int32[length] of the block.
            rows: int64[n] of it that are wanted, ascending.
            sampler: chooses the tokens; None takes the most probable.
            top_k: most probable tokens to tell of each row.
            forbidden: tokens that have no part in the distribution.
            logits: whether to tell them too.

        Raises:
            ShapeError: the wanted rows do not ascend within the block, or it has none.
            InferenceError: as for `prefill`; the logits are not finite.
        """
        return predict_all(
            [self],
            [ids],
            [rows],
            [sampler],
            top_k=top_k,
            forbidden=forbidden,
            logits=logits,
        )[0]

    @staticmethod
    def predict_all(
        sessions: Sequence[TorchSession],
        ids: Sequence[Ids],
        rows: Sequence[NDArray[np.int64]],
        samplers: Sequence[_native.Sampler],
        **options: Any,
    ) -> list[Predictions]:
        """As `predict`, of a block for each session; see `prediction.predict_all`."""
        return predict_all(sessions, ids, rows, samplers, **options)

    def keep(self, ids: Ids) -> None:
        """Count the first tokens of a block as read, with the keys and values that a pass wrote for them.

        Their rows saw those behind them too: no other text shares such pages.
        """
        self._place = None
        self.unread = [int(id) for id in ids]
        self.advance(len(ids))

    def push(self, id: int) -> None:
        """Read one token."""
        self.prefill(np.array([id], np.int32))

    def sample(self, sampler: _native.Sampler) -> tuple[int, float]:
        """Choose the next token, without reading it: its id and log-probability.

        Raises:
            InferenceError: nothing was read yet, or the logits are not finite.
        """
        if self._logits is None:
            raise InferenceError("sampling needs at least 1 tokens, got 0")
        same = self._told is not None and (
            self._told[0] is sampler or (self._told_settings == GREEDY == sampler.settings)
        )
        if self.sampler is not sampler:
            self.sampler, self._unit = sampler, None
        if not same:
            with self.texts.device.running("a choice"):
                self.texts.batcher.tell([self], self._logits[None])
        assert self._told is not None
        _, id, logit, total = self._told
        self._check_finite(total)
        if is_drawn(sampler.settings):
            # The same question again is another draw.
            self._told = None
            self.use_draw()
        return id, logit - total

    def generate(self, count: int, sampler: _native.Sampler | None = None) -> Ids:
        """Choose and read `count` tokens, whatever they are; greedily without a sampler: int32[count]."""
        found: Ids = self.generate_all([self], count, None if sampler is None else [sampler])[0]
        return found

    @staticmethod
    def generate_all(
        sessions: Sequence[TorchSession], count: int, samplers: Sequence[_native.Sampler] | None = None
    ) -> Ids:
        """As `generate` for each session with its sampler, together and without waiting for each token.

        Returns:
            int32[sessions, count].

        Raises:
            InferenceError: a session is there twice, has read nothing or has no room; logits are not finite.
        """
        _refuse_twice(sessions)
        if not count or not sessions:
            return np.zeros((len(sessions), count), np.int32)
        for session in sessions:
            session._check_room(count)
        chosen = samplers or [_native.Sampler() for _ in sessions]
        first = [session.sample(sampler)[0] for session, sampler in zip(sessions, chosen, strict=True)]
        written = sessions[0].texts.batcher.generate(sessions, first, count)
        for session in sessions:
            if session._told is not None:
                session._check_finite(session._told[3])
        return np.array(written, np.int32)

    def truncate(self, length: int) -> None:
        """Forget the tokens from `length` on; logits are gone until the next token is read."""
        if length >= len(self.tokens):
            return
        del self.tokens[length:]
        self._logits = self._told = None
        held = -(-length // PAGE_TOKENS)
        self.texts.cache.return_later(self.pages[held:], 0)
        del self.pages[held:]
        if not length:
            self._place, self._kept = beginning(None if self.adapter is None else self.adapter.number), 0
        elif length // PAGE_TOKENS < self._kept:
            self._place = None

    def logits(self) -> NDArray[np.float32]:
        """float32[vocab] of the token after the last; empty if there is none."""
        if self._logits is None:
            return np.empty(0, np.float32)
        found: NDArray[np.float32] = self._logits.cpu().numpy()
        return found

    def settings_and_unit(self) -> tuple[float, ...]:
        """`settings`, and the number that is drawn for the next token."""
        if self._unit is None and self.sampler is not None and is_drawn(self.settings):
            self._unit = float(self.sampler.draws(1)[0])
        return (*self.settings, self._unit or 0.0)

    def told(self, logits: Tensor, found: NDArray[np.float64]) -> None:
        """Take what a pass gave: logits, and the token chosen, its logit and the sum."""
        self._logits = logits
        self._told = (self.sampler, int(found[0]), float(found[1]), float(found[2]))
        self._told_settings = self.settings

    def use_draw(self) -> None:
        """The number that was drawn for the next token has chosen it."""
        self._unit = None

    def reserve(self, tokens: int) -> None:
        """Hold pages for so many tokens; the one that is written to next is its own."""
        cache, drop = self.texts.cache, self.texts.prefixes.drop_oldest
        tail = len(self.tokens) // PAGE_TOKENS
        if tail < len(self.pages) and cache.is_shared(self.pages[tail]):
            page = cache.take(drop)
            cache.copy(self.pages[tail], page)
            cache.release(self.pages[tail])
            self.pages[tail] = page
        while len(self.pages) * PAGE_TOKENS < tokens:
            self.pages.append(cache.take(drop))

    def advance(self, count: int) -> None:
        """Count `count` tokens as read, and let later texts take over full pages."""
        self._logits = self._told = None
        self.tokens += self.unread[:count]
        del self.unread[:count]
        full = len(self.tokens) // PAGE_TOKENS
        while self._place is not None and self._kept < full:
            begin = self._kept * PAGE_TOKENS
            tokens = self.tokens[begin : begin + PAGE_TOKENS]
            self._place = self.texts.prefixes.keep(self._place, tokens, self.pages[self._kept])
            if self._place is not None:
                self._kept += 1

    def _begin(self, ids: Ids) -> bool:
        """Give it tokens to read, and what earlier texts have in common with them."""
        self.check(ids)
        self.unread = [int(id) for id in ids]
        whole = (len(ids) - 1) // PAGE_TOKENS * PAGE_TOKENS
        if whole > 0 and not self.tokens and self._place is not None:
            with self.texts.device.running("a beginning"):
                self._place, found = self.texts.prefixes.find(self._place, self.unread[:whole])
                # A block that was predicted before anything was read has left a page.
                self.texts.cache.return_later(self.pages[: len(found)], 0)
                self.pages[: len(found)] = found
                self._kept = len(found)
                self.advance(self._kept * PAGE_TOKENS)
        return bool(self.unread)

    def check(self, ids: Ids) -> None:
        """Refuse ids outside the vocabulary, or more than there is room for."""
        self.texts.check_ids(ids)
        self._check_room(len(ids))

    def _check_room(self, count: int) -> None:
        got = len(self.tokens) + count
        if got > self._max_tokens:
            raise InferenceError(
                f"{got} tokens do not fit the session of {self._max_tokens}; shorten the text"
            )

    def _check_finite(self, total: float) -> None:
        if not np.isfinite(total):
            self.taint()
            raise not_finite()

    def taint(self) -> None:
        """What is not a number must not reach the texts that take over these pages."""
        self._place = None
        with self.texts.device.running("a page"):
            self.texts.cache.scrub(self.pages)


def _refuse_twice(sessions: Sequence[TorchSession]) -> None:
    for index, session in enumerate(sessions):
        if any(session is other for other in sessions[:index]):
            raise InferenceError(f"pass: cache {index} has two writers; give each text a cache of its own")
