"""What decoding repeats, captured where the device can: a token or a block of several texts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion.inference.torch.adapter import Cards
from ai_os_diffusion.inference.torch.choice import choose, penalise
from ai_os_diffusion.inference.torch.device import Device, is_out_of_memory
from ai_os_diffusion.inference.torch.forward_pass import Pass
from ai_os_diffusion.inference.torch.kv_cache import PAGE_TOKENS, KvCache
from ai_os_diffusion.inference.torch.network import Decoder
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["MOST_TEXTS", "Block", "Step", "StepShape", "Steps"]

_log = get_logger(__name__)

MOST_TEXTS = 256
"""Texts of a step; more go one step after the other."""

_FEWEST_PAGES, _FEWEST_ROWS = 4, 8
_MOST_ROWS = 1024
"""Rows of a pass over blocks, padding counted. What more compute takes longer than launching it."""

_MOST_KEPT = 32

Tensor = Any


class StepShape(NamedTuple):
    """What tells one captured step from another.

    Attributes:
        texts: rows, some of which may be padding.
        pages: of the longest text.
        is_drawn: whether some text draws its tokens.
        is_penalised: whether for some text it counts what was read before.
    """

    texts: int
    pages: int
    is_drawn: bool
    is_penalised: bool

    @classmethod
    def fitting(
        cls, texts: int, tokens: int, most_pages: int, *, is_drawn: bool, is_penalised: bool
    ) -> StepShape:
        """The smallest of the few shapes there are that holds so many texts of so many tokens."""
        return cls(_power_of_two(texts), _pages_for(tokens, most_pages), is_drawn, is_penalised)


class Captured:
    """Work on tensors that stay where they are, and in which nothing waits for the device.

    On CUDA it is captured as a graph and then replayed: the host launches one thing in place of hundreds.

    Args:
        work: to be done; it is done a few times at first. What it leaves lies in tensors that it found.
        pool: memory for what it needs meanwhile; None: it is not captured.
    """

    def __init__(self, work: Callable[[], None], pool: Any) -> None:
        self._work = work
        self.graph = None if pool is None else _graph_of(work, pool)

    def run(self) -> None:
        """Queue the work on the device."""
        if self.graph is None:
            self._work()
        else:
            self.graph.replay()


class Step:
    """Reads a token of each text and chooses the next, which is what the step after it reads.

    Args:
        network: a decoder.
        cache: where the texts' keys lie.
        device: of both.
        shape: of the step.
        cards: of the texts.
        pool: as `Captured` takes it.
    """

    def __init__(
        self,
        network: Decoder,
        cache: KvCache,
        device: Device,
        shape: StepShape,
        cards: Cards,
        *,
        pool: Any,
    ) -> None:
        self.shape, self._network, self._cache, self._cards = shape, network, cache, cards
        texts, place = shape.texts, {"device": device.torch}
        # One tensor, so that one copy brings a step's inputs: the token, its position, the text's pages.
        self._inputs = torch.zeros((texts, 2 + shape.pages), dtype=torch.int64, **place)
        self._ones = torch.ones(texts, dtype=torch.int64, **place)
        # `choice.Settings`, and a number drawn from [0, 1).
        self._settings = torch.zeros((texts, 6), dtype=device.precise, **place)
        vocab = network.vocab_size
        self._seen = torch.zeros((texts, vocab), dtype=torch.bool, **place) if shape.is_penalised else None
        self.logits = torch.zeros((texts, vocab), **place)
        # The chosen token, its logit, and the logarithm of the sum of all exponentials.
        self.chosen = torch.zeros((texts, 3), dtype=device.precise, **place)
        self._captured = Captured(self._compute, pool)

    def load(self, ids: Sequence[int], starts: Sequence[int], tables: Sequence[Sequence[int]]) -> None:
        """Say which token each text reads, at which position, and where its pages are."""
        host = np.zeros(tuple(self._inputs.shape), np.int64)
        host[: len(ids), 0], host[: len(ids), 1] = ids, starts
        for row, pages in enumerate(tables):
            host[row, 2 : 2 + len(pages)] = pages
        self._inputs.copy_(torch.from_numpy(host))

    def load_settings(self, settings: Sequence[Sequence[float]], histories: Sequence[Sequence[int]]) -> None:
        """Say how each text chooses, with a number drawn for it, and what it has read."""
        host = np.zeros(tuple(self._settings.shape))
        host[:, 4] = 1
        host[: len(settings)] = settings
        self._settings.copy_(torch.from_numpy(host).to(self._settings.dtype))
        if self._seen is not None:
            longest = max(map(len, histories))
            # Filled up with the first token of each, which is seen in any case.
            read = np.array([[*history, *[history[0]] * (longest - len(history))] for history in histories])
            self._seen.zero_()
            self._seen[: len(read)].scatter_(1, torch.from_numpy(read).to(self._seen.device), True)

    def draw(self, units: Tensor) -> None:
        """Say what the texts draw in the next step."""
        self._settings[: len(units), 5] = units

    def run(self) -> None:
        """Queue the step on the device."""
        self._captured.run()

    def _compute(self) -> None:
        ids, starts, tables = self._inputs[:, :1], self._inputs[:, 1], self._inputs[:, 2:]
        asked = Pass(ids, starts, self._ones, True, tables, cards=self._cards)
        states = self._network(asked, self._cache)
        self.logits.copy_(self._network.head(states, self._cards)[:, 0])
        logits = self.logits
        if self._seen is not None:
            self._seen.scatter_(1, ids, True)
            logits = penalise(logits, self._seen, self._settings[:, :5])
        units = self._settings[:, 5] if self.shape.is_drawn else None
        chosen = choose(logits, self._settings[:, :5], units)[:, None]
        told = (chosen, self.logits.gather(1, chosen), self.logits.logsumexp(1, keepdim=True))
        self.chosen.copy_(torch.cat([part.to(self.chosen.dtype) for part in told], 1))
        ids.copy_(chosen)
        starts.add_(1)


def _graph_of(work: Callable[[], None], pool: Any) -> Any:
    """The work as a graph; None, with a warning, where capturing is not to be had."""
    # Once before, so that nothing is set up while capturing.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        work()
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads may use the device for their own while this one captures.
        with torch.cuda.graph(graph, pool, aside, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        _log.warning("steps are not captured, which makes them several times slower: %s", error)
        return None
    return graph


class Block:
    """States of rows that see each other and what their text has read, and that leave nothing behind.

    Args:
        network: a decoder.
        cache: where the texts' keys lie.
        device: of both.
        shape: texts, rows of each, and pages of the longest text with them.
        cards: of the texts.
        pool: as `Captured` takes it.
    """

    def __init__(
        self,
        network: Decoder,
        cache: KvCache,
        device: Device,
        shape: tuple[int, int, int],
        cards: Cards,
        *,
        pool: Any,
    ) -> None:
        self.cards, self._network, self._cache = cards, network, cache
        texts, self._rows, self._pages = shape
        # Where the rows start, how many are no padding, the text's pages, the rows' tokens and positions.
        width = 2 + self._pages + 2 * self._rows
        self._inputs = torch.zeros((texts, width), dtype=torch.int64, device=device.torch)
        states = (texts, self._rows, network.sites.hidden)
        self.states = torch.zeros(states, dtype=network.dtype, device=device.torch)
        self._captured = Captured(self._compute, pool)

    def load(
        self,
        ids: Sequence[NDArray[np.int32]],
        starts: Sequence[int],
        tables: Sequence[Sequence[int]],
        positions: Sequence[NDArray[np.int32]],
    ) -> None:
        """Say which tokens each text's rows are, behind how many, and at which positions if not there."""
        host = np.zeros(tuple(self._inputs.shape), np.int64)
        rows = 2 + self._pages
        for text, (own, start, pages, placed) in enumerate(zip(ids, starts, tables, positions, strict=True)):
            host[text, :2] = start, len(own)
            host[text, 2 : 2 + min(len(pages), self._pages)] = pages[: self._pages]
            host[text, rows : rows + len(own)] = own
            host[text, rows + self._rows :] = start + np.arange(self._rows)
            host[text, rows + self._rows : rows + self._rows + len(placed)] = placed
        self._inputs.copy_(torch.from_numpy(host))

    def run(self) -> None:
        """Queue the block on the device."""
        self._captured.run()

    def _compute(self) -> None:
        parts = [1, 1, self._pages, self._rows, self._rows]
        starts, counts, tables, ids, turns = self._inputs.split(parts, 1)
        asked = Pass(ids, starts[:, 0], counts[:, 0], False, tables, cards=self.cards, turns=turns)
        self.states.copy_(self._network(asked, self._cache))


class Steps:
    """The steps and blocks that were used last, by their shapes.

    Args:
        network: a decoder.
        cache: where the texts' keys lie.
        device: of both.
        most_pages: of a text.
    """

    def __init__(self, network: Decoder, cache: KvCache, device: Device, most_pages: int) -> None:
        self._network, self._cache, self._device, self._most_pages = network, cache, device, most_pages
        self._kept: OrderedDict[tuple[Any, int], Any] = OrderedDict()
        self._generation = cache.generation
        # One for all: they run one after the other, and what they leave lies elsewhere.
        self._pool = torch.cuda.graph_pool_handle() if device.captures else None

    def fitting(
        self, texts: int, tokens: int, cards: Sequence[Any], *, is_drawn: bool, is_penalised: bool
    ) -> Step:
        """The step for so many texts, the longest of so many tokens with the one that it reads.

        Args:
            texts: `MOST_TEXTS` at most.
            tokens: of the longest.
            cards: the adapter of each text, or None; equal ones are neighbours.
            is_drawn: whether some text draws its tokens.
            is_penalised: whether for some text it counts what was read before.
        """
        shape = StepShape.fitting(
            texts, tokens, self._most_pages, is_drawn=is_drawn, is_penalised=is_penalised
        )
        # Padding uses what the last text uses.
        of_texts = Cards.of([*cards, *[cards[-1]] * (shape.texts - texts)])
        if of_texts.number is None:
            # Each mix of cards is another step: not one of them would be used often.
            return Step(self._network, self._cache, self._device, shape, of_texts, pool=None)
        step: Step = self._kept_one(Step, shape, of_texts)
        return step

    def most_blocks(self, rows: int) -> int:
        """Texts of a pass over blocks of so many rows."""
        return max(1, min(MOST_TEXTS, _MOST_ROWS // _rows_for(rows)))

    def block(self, rows: int, tokens: int, cards: Sequence[Any]) -> Block:
        """The pass over blocks of up to `rows` tokens, the last of texts of up to `tokens`.

        Args:
            rows: of the longest block.
            tokens: of the longest text, with its block.
            cards: the adapter of each text, or None; equal ones are neighbours.
        """
        shape = (_power_of_two(len(cards)), _rows_for(rows), _pages_for(tokens, self._most_pages))
        of_texts = Cards.of([*cards, *[cards[-1]] * (shape[0] - len(cards))])
        if rows > _MOST_ROWS or of_texts.number is None:
            return Block(self._network, self._cache, self._device, shape, of_texts, pool=None)
        block: Block = self._kept_one(Block, shape, of_texts)
        return block

    def _kept_one(self, kind: type[Step] | type[Block], shape: Any, cards: Cards) -> Any:
        if self._generation != self._cache.generation:
            self._kept.clear()
            self._generation = self._cache.generation
        assert cards.number is not None
        key = (shape, cards.number)
        if key not in self._kept:
            while len(self._kept) >= _MOST_KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = kind(self._network, self._cache, self._device, shape, cards, pool=self._pool)
        self._kept.move_to_end(key)
        return self._kept[key]


def _rows_for(rows: int) -> int:
    """Rows that are computed for a block: few shapes serve all; of a long one no more than there are."""
    return rows if rows > _MOST_ROWS else max(_FEWEST_ROWS, _power_of_two(rows))


def _pages_for(tokens: int, most: int) -> int:
    return min(most, max(_FEWEST_PAGES, _power_of_two(-(-tokens // PAGE_TOKENS))))


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
