"""Texts that are written block by block, each block in few passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion.candidates import Candidates
from ai_os_diffusion.diffusion.canvas import Canvas
from ai_os_diffusion.diffusion.denoiser import Ask, Denoiser, DenoisingText, Predictions, Reading
from ai_os_diffusion.diffusion.samplers import Sampler
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["DenoisingStep", "DiffusionCore", "DiffusionRequest", "Written"]

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class DiffusionRequest:
    """A text to be written.

    Attributes:
        prompt: int32[n], read before anything is written; may be empty where a block has given text.
        blocks: what each block begins as, one after the other: int32[length], open positions masked.
        sampler_of: the sampler for the block of an index.
        temperature: 0 takes the most probable token.
        seed: of all that is drawn.
        top_k: alternatives that are told of each token.
        stops: whether an end token ends the text: what stands behind it is dropped, and later blocks are not
            written.
        allowed: tokens that may be written at a position of a block: by (block, position).
        unguided: the prompt without what it tells, see `Denoiser.read`.
        candidates: what a block may become, by its index.
    """

    prompt: Ids
    blocks: Sequence[Ids]
    sampler_of: Callable[[int], Sampler]
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 0
    stops: bool = True
    allowed: Mapping[tuple[int, int], Ids] = field(default_factory=dict)
    unguided: Ids | None = None
    candidates: Mapping[int, Candidates] = field(default_factory=dict)


@dataclass(frozen=True)
class DenoisingStep:
    """What one pass did to one text.

    Attributes:
        request: index of the text.
        block: index of the block.
        number: of the step, over all blocks of the text, from 1.
        rows: int64[n], positions of the block that changed, in order.
        ids: int32[n], what stands there now; the mask token where one was taken back.
        confidence: float32[n].
        entropy: float32[n], nats.
        canvas: int32[length], the block as it is now.
    """

    request: int
    block: int
    number: int
    rows: NDArray[np.int64]
    ids: Ids
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    canvas: Ids


@dataclass
class Written:
    """A text that was written.

    Attributes:
        canvases: its blocks, as far as they were written.
        alternatives: for each block, (ids, probabilities) [length, top_k] of the pass in which a position
            was committed.
        steps: how often a sampler was told something.
        passes: forward passes of blocks.
        is_ended: whether an end token ended it.
        read_s: seconds until the first pass has predicted: a denoiser may read the prompt in it.
        write_s: seconds for the rest. Those of passes that several texts shared count for each.
    """

    canvases: list[Canvas] = field(default_factory=list)
    alternatives: list[tuple[Ids, NDArray[np.float32]]] = field(default_factory=list)
    steps: int = 0
    passes: int = 0
    is_ended: bool = False
    read_s: float = 0.0
    write_s: float = 0.0


class DiffusionCore:
    """Writes by denoising; it sees neither files nor models.

    Args:
        denoiser: predicts.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def write(self, requests: Iterable[DiffusionRequest], *, most: int | None = None) -> list[Written]:
        """Write texts in common passes; each as it would be alone.

        Args:
            requests: the texts; each is begun when it joins.
            most: texts of a pass. When one is written it leaves, and the next joins; None takes all at once.

        Raises:
            SamplingError: a request contradicts itself.
        """
        if most is not None and most < 1:
            raise SamplingError(f"most is {most}, expected 1 text or more")
        writing: list[_Text] = []

        def begun() -> Iterator[_Text]:
            for index, request in enumerate(requests):
                writing.append(_Text(self.denoiser, request, index))
                yield writing[-1]

        for _ in self._steps(begun(), most):
            pass
        return [text.written for text in writing]

    def stream(self, request: DiffusionRequest, into: Written | None = None) -> Iterator[DenoisingStep]:
        """Write one text, and tell of each pass what it changed.

        Args:
            request: the text.
            into: filled as the text is written.

        Raises:
            SamplingError: the request contradicts itself.
        """
        text = _Text(self.denoiser, request, 0, into)
        return self._steps(iter([text]), None)

    def _steps(self, waiting: Iterator[_Text], most: int | None) -> Iterator[DenoisingStep]:
        live: list[_Text] = []
        while True:
            joining = list(islice(waiting, None if most is None else most - len(live)))
            self._read(joining)
            live += joining
            if not live:
                return
            begun = time.perf_counter()
            found = self.denoiser.predict([text.ask() for text in live])
            passed = time.perf_counter() - begun
            for text, predictions in zip(live, found, strict=True):
                yield text.take(predictions, passed)
            live = [text for text in live if text.is_live]
            self._append([text for text in live if text.has_finished])

    def _read(self, texts: Sequence[_Text]) -> None:
        if texts:
            begun = time.perf_counter()
            found = self.denoiser.read([text.reading() for text in texts])
            taken = time.perf_counter() - begun
            for text, read in zip(texts, found, strict=True):
                text.begin(read, taken)

    def _append(self, texts: Sequence[_Text]) -> None:
        if texts:
            begun = time.perf_counter()
            self.denoiser.append([text.read for text in texts], [text.block for text in texts])
            taken = time.perf_counter() - begun
            for text in texts:
                text.go_on(taken)


class _Text:
    """A text on its way: its block, the sampler that works on it, and what that asks for next.

    Attributes:
        read: what the denoiser has read of it.
        is_live: it is not written yet.
        has_finished: its block is, and is to be read before the next begins.
    """

    read: DenoisingText

    def __init__(
        self, denoiser: Denoiser, request: DiffusionRequest, index: int, into: Written | None = None
    ) -> None:
        self._denoiser, self._request, self._index = denoiser, request, index
        self.written = Written() if into is None else into
        self._room = sum(map(len, request.blocks))
        if not request.blocks:
            raise SamplingError("expected at least one block to write")
        if len(request.prompt) + self._room > denoiser.window:
            raise SamplingError(
                f"the prompt has {len(request.prompt)} tokens and {self._room} are to be written, and the "
                f"model sees {denoiser.window}; shorten one of them"
            )
        self._random = np.random.default_rng(request.seed)
        self.is_live, self.has_finished = True, False
        self._rows: NDArray[np.int64]

    @property
    def block(self) -> Ids:
        """The block as it is."""
        return self._canvas.ids

    def reading(self) -> Reading:
        """What is to be read of it at first."""
        asked = self._request
        return Reading(asked.prompt, self._room, asked.temperature, asked.seed, asked.top_k, asked.unguided)

    def begin(self, read: DenoisingText, seconds: float) -> None:
        """Begin the first block behind the prompt."""
        self.read, self.written.read_s = read, seconds
        self._begin(0)

    def go_on(self, seconds: float) -> None:
        """Begin the block behind the one that was finished and read."""
        self.written.write_s += seconds
        self.has_finished = False
        self._begin(len(self.written.canvases))

    def ask(self) -> Ask:
        """What the next pass is to predict."""
        canvas, block = self._canvas, len(self.written.canvases) - 1
        allowed = canvas.allowed(self._rows) | {
            at: tokens
            for at, row in enumerate(self._rows.tolist())
            if (tokens := self._request.allowed.get((block, row))) is not None
        }
        return Ask(self.read, canvas.ids, self._rows, allowed, canvas.length)

    def take(self, found: Predictions, seconds: float) -> DenoisingStep:
        """Go on with what a pass predicted."""
        canvas, rows, block = self._canvas, self._rows, len(self.written.canvases) - 1
        canvas.begin_pass(rows, found)
        self.written.steps += 1
        self.written.passes += not found.is_known
        if self.written.steps == 1:
            self.written.read_s += seconds
        else:
            self.written.write_s += seconds
        ended = False
        try:
            self._rows = self._sampler.send(found)
        except StopIteration:
            ended = True
        changed = canvas.changed
        ids, probabilities = self.written.alternatives[-1]
        is_new = np.isin(rows, changed)
        ids[rows[is_new]], probabilities[rows[is_new]] = found.top_ids[is_new], found.top_confidence[is_new]
        step = DenoisingStep(
            self._index,
            block,
            self.written.steps,
            changed,
            canvas.ids[changed],
            canvas.confidence[changed],
            canvas.entropy[changed],
            canvas.ids.copy(),
        )
        self.written.is_ended = self._request.stops and self._is_ended()
        if self.written.is_ended or (ended and block + 1 == len(self._request.blocks)):
            self.is_live = False
        self.has_finished = ended
        return step

    def _begin(self, block: int) -> None:
        candidates = self._request.candidates.get(block)
        ends = self._denoiser.end_ids if self._request.stops and self._denoiser.leaves_end else ()
        canvas = Canvas(self._request.blocks[block], self._denoiser.mask_id, candidates, ends=ends)
        shape = len(canvas.ids), self._request.top_k
        self._canvas = canvas
        self.written.canvases.append(canvas)
        self.written.alternatives.append((np.zeros(shape, np.int32), np.zeros(shape, np.float32)))
        self._sampler = self._request.sampler_of(block)(canvas, self._random)
        self._rows = next(self._sampler)

    def _is_ended(self) -> bool:
        """Whether an end token was written, and all before it."""
        canvas = self._canvas
        ends = np.flatnonzero(
            np.isin(canvas.ids, list(self._denoiser.end_ids)) & ~canvas.is_open & ~canvas.is_given
        )
        return bool(len(ends)) and not canvas.is_open[: ends[0]].any()
