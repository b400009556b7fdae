"""Joins the texts that threads read at the same time into passes (continuous batching)."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ai_os_diffusion.inference.torch.adapter import Cards
from ai_os_diffusion.inference.torch.choice import choose, is_drawn, is_penalised, penalise
from ai_os_diffusion.inference.torch.device import Device
from ai_os_diffusion.inference.torch.forward_pass import Pass
from ai_os_diffusion.inference.torch.kv_cache import KvCache
from ai_os_diffusion.inference.torch.network import Decoder
from ai_os_diffusion.inference.torch.step import MOST_TEXTS, Step, Steps

if TYPE_CHECKING:
    from ai_os_diffusion.inference.torch.session import TorchSession

__all__ = ["Batcher"]

Tensor = Any

_ROWS = 2048
"""Rows of a pass that reads more than a token of its texts, padding counted."""

_LINGER_S = 0.002
"""How long a pass waits for the texts of the one before: their threads have a token to choose first."""

_LOOK_S = 0.05
"""How often who waits looks at signals."""

_MOST_APART = 4
"""Mixes of cards for which captured steps are taken one after the other."""

_AHEAD = 32
"""Steps that are queued before the host looks at what they chose."""


class Batcher:
    """Of the threads that wait, one computes a pass for all of them, and the next pass is another's.

    A text joins and leaves at any pass. Texts with one token to read take a common step, those with more read
    a part of it beside.

    Args:
        network: a decoder.
        cache: where the texts' keys lie.
        device: of both.
        most_pages: of a text.
    """

    def __init__(self, network: Decoder, cache: KvCache, device: Device, most_pages: int) -> None:
        self._network, self._cache, self._device = network, cache, device
        self.steps = Steps(network, cache, device, most_pages)
        self._changed = threading.Condition()
        self._waiting: list[TorchSession] = []
        self._is_computing = False
        self._expected: set[int] = set()

    def read(self, texts: Sequence[TorchSession]) -> None:
        """Read what is unread of texts, with what other threads read meanwhile.

        Raises:
            DeviceError: there was no memory for a pass; the texts have what was read before.
        """
        with self._changed:
            for text in texts:
                text.is_waiting, text.fault = True, None
            self._waiting += texts
            self._changed.notify_all()
            try:
                while any(text.is_waiting for text in texts):
                    if self._is_computing:
                        self._changed.wait(_LOOK_S)
                    else:
                        self._compute()
            finally:
                self._waiting = [text for text in self._waiting if text not in texts]
        for text in texts:
            if text.fault is not None:
                raise text.fault

    def forget(self, number: int) -> None:
        """A text that ended is not waited for; from any thread at any moment."""
        self._expected.discard(number)

    def generate(self, texts: Sequence[TorchSession], first: Sequence[int], count: int) -> list[list[int]]:
        """Read a first token of each text and those chosen after it, `count` in all.

        The device goes on by itself; the host looks every few steps.

        Returns:
            What each text read.
        """
        written = {text.number: [id] for text, id in zip(texts, first, strict=True)}
        for group in self.groups(texts):
            for done in range(0, count, _AHEAD):
                with self._device.running("a step"):
                    ids = [written[text.number][-1] for text in group]
                    found = self._run_ahead(group, ids, min(_AHEAD, count - done))
                for text, chosen in zip(group, found, strict=True):
                    written[text.number] += chosen
        # The last was chosen and not read.
        return [ids[:-1] for ids in written.values()]

    def tell(self, texts: Sequence[TorchSession], logits: Tensor) -> None:
        """Choose a token for each text from its logits, float32[texts, vocab]."""
        settings = [text.settings_and_unit() for text in texts]
        table = torch.tensor(settings, dtype=self._device.precise, device=logits.device)
        scores = logits
        if any(is_penalised(text.settings) for text in texts):
            seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, text in enumerate(texts):
                seen[row, torch.tensor(text.tokens, device=logits.device)] = True
            scores = penalise(logits, seen, table[:, :5])
        has_drawn = any(is_drawn(text.settings) for text in texts)
        chosen = choose(scores, table[:, :5], table[:, 5] if has_drawn else None)[:, None]
        told = (chosen, logits.gather(1, chosen), logits.logsumexp(1, keepdim=True))
        found = torch.cat([part.to(table.dtype) for part in told], 1).cpu().numpy()
        for row, text in enumerate(texts):
            text.told(logits[row], found[row])

    def _compute(self) -> None:
        """One pass for all who wait; the lock is held, but not while it is computed."""
        self._is_computing = True
        group: list[TorchSession] = []
        try:
            self._linger()
            group, self._waiting = self._waiting, []
            self._changed.release()
            try:
                self._pass(group)
            finally:
                self._changed.acquire()
            self._expected = {text.number for text in group if not text.unread}
            for text in group:
                text.is_waiting = bool(text.unread)
        except Exception as error:  # noqa: BLE001 - whoever waits for a text raises it
            for text in group:
                text.fault, text.is_waiting = error, False
        finally:
            self._waiting += [text for text in group if text.is_waiting]
            self._is_computing = False
            self._changed.notify_all()

    def _linger(self) -> None:
        """Wait a moment for the texts of the last pass, so that they stay together."""
        end = time.monotonic() + _LINGER_S
        while self._expected - {text.number for text in self._waiting}:
            left = end - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)

    def _pass(self, group: list[TorchSession]) -> None:
        """Read something of every text that fits."""
        with self._device.running("a pass"):
            for texts in self.groups([text for text in group if len(text.unread) == 1]):
                self._read_one(texts)
            longer = [text for text in group if len(text.unread) > 1]
            if longer:
                self._read_more(*_that_fit(longer))

    def groups(self, texts: Sequence[TorchSession]) -> Iterator[list[TorchSession]]:
        """The texts of each common step; those that use the same cards are neighbours.

        A few captured steps, each with cards of its own, end before one that is not captured.
        """
        ordered = sorted(texts, key=lambda text: text.adapter_number)
        runs = [list(run) for _, run in itertools.groupby(ordered, lambda text: text.adapter_number)]
        if not self._device.captures or len(runs) > _MOST_APART:
            runs = [ordered]
        for run in runs:
            for begin in range(0, len(run), MOST_TEXTS):
                yield run[begin : begin + MOST_TEXTS]

    def _read_one(self, texts: list[TorchSession]) -> None:
        step = self._loaded(texts, [text.unread[0] for text in texts], 1)
        step.run()
        found = step.chosen[: len(texts)].cpu().numpy()
        # The next step writes its logits where these are.
        logits = step.logits[: len(texts)].clone()
        for row, text in enumerate(texts):
            text.advance(1)
            text.told(logits[row], found[row])

    def read_whole(self, texts: Sequence[TorchSession]) -> None:
        """Read what is unread of texts, of each all at once: its rows see each other."""
        waiting = list(texts)
        try:
            while waiting:
                together, length = _that_fit(waiting, part=False)
                with self._device.running(f"{sum(len(text.unread) for text in together)} tokens"):
                    self._read_more(together, length, causal=False)
                waiting = [text for text in waiting if text.unread]
        finally:
            for text in waiting:
                text.unread = []

    def _read_more(self, texts: list[TorchSession], length: int, *, causal: bool = True) -> None:
        counts = [min(len(text.unread), length) for text in texts]
        ids = np.zeros((len(texts), length), np.int64)
        for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
            ids[row, :count] = text.unread[:count]
            text.reserve(len(text) + count)
        asked = self.behind(texts, ids, counts, causal=causal)
        states = self._network(asked, self._cache)
        wanted = torch.tensor(counts, device=states.device)[:, None, None] - 1
        last = states.gather(1, wanted.expand(-1, -1, states.shape[-1]))
        done = [
            row
            for row, (text, count) in enumerate(zip(texts, counts, strict=True))
            if count == len(text.unread)
        ]
        for text, count in zip(texts, counts, strict=True):
            text.advance(count)
        if done:
            logits = self._network.head(last, asked.cards)[:, 0]
            self.tell([texts[row] for row in done], logits[done])

    def behind(self, texts: Sequence[TorchSession], ids: Any, counts: Sequence[int], *, causal: bool) -> Pass:
        """The pass that reads `ids` int64[texts, length] behind texts that have room for them."""
        place = self._device.torch
        tables = np.zeros((len(texts), max(len(text.pages) for text in texts)), np.int64)
        for row, text in enumerate(texts):
            tables[row, : len(text.pages)] = text.pages
        return Pass(
            torch.from_numpy(ids).to(place),
            torch.tensor([len(text) for text in texts], device=place),
            torch.tensor(counts, device=place),
            causal,
            torch.from_numpy(tables).to(place),
            cards=Cards.of([text.adapter for text in texts]),
        )

    def _run_ahead(self, texts: list[TorchSession], first: list[int], count: int) -> list[list[int]]:
        """What `count` steps choose for each text, the first of which read `first`."""
        for text in texts:
            text.use_draw()
        step = self._loaded(texts, first, count)
        draws = [
            text.sampler.draws(count - 1) if text.sampler and is_drawn(text.settings) else np.zeros(count - 1)
            for text in texts
        ]
        units = torch.from_numpy(np.stack(draws, 1)).to(self._device.precise).to(self._device.torch)
        chosen = []
        for done in range(count):
            if done and step.shape.is_drawn:
                step.draw(units[done - 1])
            step.run()
            chosen.append(step.chosen[: len(texts)].clone())
        found = torch.stack(chosen, 1).cpu().numpy()
        logits = step.logits[: len(texts)].clone()
        chosen_ids: list[list[int]] = found[:, :, 0].astype(np.int64).tolist()
        for row, text in enumerate(texts):
            text.unread = [first[row], *chosen_ids[row][:-1]]
            text.advance(count)
            text.told(logits[row], found[row, -1])
        return chosen_ids

    def _loaded(self, texts: list[TorchSession], ids: list[int], count: int) -> Step:
        """The step that reads `ids`, with room for `count` such steps."""
        for text in texts:
            text.reserve(len(text) + count)
        has_drawn = any(is_drawn(text.settings) for text in texts)
        has_penalised = any(is_penalised(text.settings) for text in texts)
        step = self.steps.fitting(
            len(texts),
            max(len(text) for text in texts) + count,
            [text.adapter for text in texts],
            is_drawn=has_drawn,
            is_penalised=has_penalised,
        )
        step.load(ids, [len(text) for text in texts], [text.pages for text in texts])
        if has_drawn or has_penalised:
            settings = [text.settings_and_unit() for text in texts]
            step.load_settings(settings, [text.tokens or [0] for text in texts])
        return step


def _that_fit(texts: list[TorchSession], *, part: bool = True) -> tuple[list[TorchSession], int]:
    """The texts of a pass, the first that came among them, and how many tokens it reads of each at most.

    Args:
        texts: with what is unread of them.
        part: a long text may be read in parts.
    """
    chosen: list[TorchSession] = []
    longest = 0
    for text in texts:
        length = max(longest, min(len(text.unread), _ROWS) if part else len(text.unread))
        if not chosen or (len(chosen) + 1) * length <= _ROWS:
            chosen.append(text)
            longest = length
    return sorted(chosen, key=lambda text: text.adapter_number), longest
