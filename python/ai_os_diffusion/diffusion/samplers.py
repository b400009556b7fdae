"""Which positions are committed after each pass: one function for each algorithm of the literature.

A sampler is a generator. It yields the positions it wants predicted, is sent the `Predictions` of them, and
changes the canvas; it returns when nothing is left to do. So any number of texts can share a pass, each with
a sampler of its own, and join or leave between passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion.canvas import Canvas, Rows
from ai_os_diffusion.diffusion.denoiser import Predictions
from ai_os_diffusion.diffusion.noise_scheduler import NoiseScheduler
from ai_os_diffusion.utils.errors import SamplingError

__all__ = [
    "Sampler",
    "Steps",
    "ancestral",
    "border_first",
    "by_entropy_bound",
    "by_factor",
    "by_threshold",
    "dream",
    "low_confidence",
    "remdm",
]

Steps = Generator[Rows, Predictions, None]
Sampler = Callable[[Canvas, np.random.Generator], Steps]
Numbers = NDArray[np.float32]

_DREAM_LAST_TIME = 1e-3


def low_confidence(
    canvas: Canvas,
    random: np.random.Generator,
    *,
    num_steps: int,
    remasking: Literal["low_confidence", "random"] = "low_confidence",
    ends_last: Collection[int] = (),
) -> Steps:
    """Commit the surest positions, equally many a step.

    Args:
        canvas: m positions are open.
        random: for random order.
        num_steps: S; a step commits m // S positions, the first m % S steps one more.
        remasking: keep the surest, or any.
        ends_last: tokens that are committed when nothing else is left (of the end of the text).

    Source: LLaDA, arXiv:2502.09992, algorithm 5; "remasking" is its name for what is not kept.
    """
    count = len(canvas.open_rows)
    _check_steps(num_steps, count)
    for step in range(num_steps):
        rows = canvas.open_rows
        found = yield rows
        score = found.confidence if remasking == "low_confidence" else random.random(len(rows), np.float32)
        score = np.where(np.isin(found.ids, list(ends_last)), -np.inf, score)
        canvas.commit(rows, found, _highest(score, count // num_steps + (step < count % num_steps)))


def dream(
    canvas: Canvas,
    random: np.random.Generator,
    *,
    num_steps: int,
    algorithm: Literal["origin", "maskgit_plus", "topk_margin", "entropy"] = "entropy",
    alg_temp: float = 0.0,
) -> Steps:
    """Commit along t = linspace(1, 0.001): the share 1 - s/t of the open positions on the way from t to s.

    Args:
        canvas: what is written.
        random: decides what is committed under "origin" or where `alg_temp` is above 0.
        num_steps: S.
        algorithm: each position by itself with that probability ("origin"); or the surest by probability
            ("maskgit_plus"), by its distance to the second ("topk_margin") or by low entropy.
        alg_temp: draw the positions by softmax(score / alg_temp) instead of taking the best.

    Source: Dream 7B, arXiv:2508.15487, `diffusion_generate`.
    """
    _check_steps(num_steps, len(canvas.open_rows))
    times = NoiseScheduler("linear").timesteps(num_steps, last=_DREAM_LAST_TIME)
    for step, (t, s) in enumerate(pairwise(times), 1):
        rows = canvas.open_rows
        if not len(rows):
            return
        found = yield rows
        is_last = step == num_steps
        if algorithm == "origin":
            is_chosen = random.random(len(rows)) < (1.0 if is_last else 1 - s / t)
            canvas.commit(rows, found, np.flatnonzero(is_chosen))
            continue
        count = len(rows) if is_last else int(len(rows) * (1 - s / t))
        score = _dream_score(found, algorithm)
        if alg_temp > 0 and count:
            weight = np.exp((score - score.max()).astype(np.float64) / alg_temp)
            drawn = random.choice(len(rows), count, replace=False, p=weight / weight.sum())
            canvas.commit(rows, found, np.sort(drawn))
        else:
            canvas.commit(rows, found, _highest(score, count))


def ancestral(
    canvas: Canvas, random: np.random.Generator, *, num_steps: int, scheduler: NoiseScheduler
) -> Steps:
    """Sample the reverse process.

    On the way from time t to s an open position stays open with probability rate(s) / rate(t). A pass after
    which nothing changed would predict the same, so its prediction is used again. Tokens are drawn by the
    denoiser; at time 0 all that is open is committed.

    Source: MDLM, arXiv:2406.07524, sec. 4 (with cache).
    """
    _check_steps(num_steps, None)
    rates = scheduler.mask_rate(scheduler.timesteps(num_steps))
    found: Predictions | None = None
    rows = canvas.open_rows
    for rate, next_rate in pairwise(rates):
        if found is None:
            rows = canvas.open_rows
            found = yield rows
        leaves = np.flatnonzero(random.random(len(rows)) >= next_rate / rate)
        if len(leaves):
            canvas.commit(rows, found, leaves)
            found = None
        if not canvas.is_open.any():
            return


def remdm(
    canvas: Canvas,
    random: np.random.Generator,
    *,
    num_steps: int,
    scheduler: NoiseScheduler,
    strategy: Literal["cap", "rescale", "conf"] = "cap",
    eta: float = 0.02,
    loop: tuple[float, float] | None = None,
) -> Steps:
    """Sample a reverse process in which a committed token may be taken back, with probability sigma a step.

    With a = 1 - rate, a token is taken back with sigma, and an open position is committed with
    (a(s) - (1 - sigma) a(t)) / (1 - a(t)); sigma is at most min(1, (1 - a(s)) / a(t)).

    Args:
        canvas: what is written.
        random: decides.
        num_steps: steps in all.
        scheduler: gives a.
        strategy: sigma is `eta` at most ("cap"), `eta` times the greatest ("rescale"), or that ("conf")
            shared out by softmax(-confidence) over the committed tokens.
        eta: how much.
        loop: times (from, to): between them a stands still, and tokens are exchanged alone; the steps
            before and after go through the schedule.

    Source: ReMDM, arXiv:2503.00307, sec. 4.
    """
    _check_steps(num_steps, None)
    if not 0 <= eta <= 1:
        raise SamplingError(f"eta is {eta}, expected 0 to 1")
    clean = [*_looped(1 - scheduler.mask_rate(scheduler.timesteps(num_steps)), loop)]
    for a, following, is_in_loop in clean:
        rows = canvas.open_rows
        if not len(rows) and loop is None and following >= 1:
            return
        written = canvas.written_rows
        limit = min(1.0, (1 - following) / a) if a > 0 else 1.0
        sigma = min(eta, limit) if strategy == "cap" else eta * limit
        if loop is not None and not is_in_loop:
            sigma = 0.0
        taken = np.full(len(written), sigma)
        if strategy == "conf" and len(written):
            weight = np.exp(-canvas.confidence[written].astype(np.float64))
            taken = sigma * weight / weight.sum()
        is_committed = random.random(len(rows)) < (following - (1 - sigma) * a) / max(1 - a, 1e-12)
        back = written[random.random(len(written)) < taken]
        if is_committed.any():
            found = yield rows
            canvas.commit(rows, found, np.flatnonzero(is_committed))
        canvas.remask(back)
    while len(rows := canvas.open_rows):
        found = yield rows
        canvas.commit(rows, found, np.arange(len(rows)))


def border_first(sampler: Sampler) -> Sampler:
    """Commit a block's first position before any other is predicted.

    It is for states that predict the token behind them: the one that predicts the first position lies before
    the block, where nothing changes while the block is written, so waiting would tell nothing more of it.

    Args:
        sampler: writes the other positions.

    Source: Fast-dLLM v2, arXiv:2509.26328, sec. 3; Fast-dLLM's caches for Dream.
    """

    def steps(canvas: Canvas, random: np.random.Generator) -> Steps:
        if canvas.is_open[0]:
            found = yield np.zeros(1, np.int64)
            canvas.commit(np.zeros(1, np.int64), found, np.zeros(1, np.int64))
        if canvas.is_open.any():
            yield from sampler(canvas, random)

    return steps


def by_threshold(
    canvas: Canvas,
    random: np.random.Generator,
    *,
    threshold: float = 0.9,
    edits_above: float | None = None,
    within: int | None = None,
) -> Steps:
    """Commit every position that is sure enough, at least the surest.

    Args:
        canvas: what is written.
        random: unused.
        threshold: the least probability.
        edits_above: a written token is replaced where another has at least this probability now; None
            replaces nothing. A token is replaced once at most, so that it ends.
        within: positions of a sub-block; those of one are written before those behind it. None is all.

    Source: Fast-dLLM, arXiv:2505.22618, algorithm 1; editing as in LLaDA 2.1; sub-blocks as in Fast-dLLM v2,
    arXiv:2509.26328.
    """
    del random
    _check_share("threshold", threshold)
    if edits_above is not None:
        _check_share("edits_above", edits_above)
    if within is not None and within < 1:
        raise SamplingError(f"within is {within}, expected 1 position or more")
    while canvas.is_open.any():
        opened = canvas.open_rows
        if within is not None:
            opened = opened[opened // within == opened[0] // within]
        written = canvas.written_rows if edits_above is not None else np.zeros(0, np.int64)
        rows = np.concatenate([opened, written])
        found = yield rows
        score = found.confidence[: len(opened)]
        sure = np.union1d(np.flatnonzero(score >= threshold), _highest(score, 1))
        if len(written):
            other = (found.ids != canvas.ids[rows]) & (found.confidence >= (edits_above or 1.0))
            other[: len(opened)] = False
            other &= canvas.revisions[rows] == 0
            sure = np.union1d(sure, np.flatnonzero(other))
        canvas.commit(rows, found, sure)


def by_factor(canvas: Canvas, random: np.random.Generator, *, factor: float = 1.0) -> Steps:
    """Commit the n surest positions, n the greatest with (n + 1) (1 - the n-th confidence) < `factor`.

    Source: Fast-dLLM, arXiv:2505.22618, sec. 3.3.
    """
    del random
    if not factor > 0:
        raise SamplingError(f"factor is {factor}, expected more than 0")
    while canvas.is_open.any():
        rows = canvas.open_rows
        found = yield rows
        falling = -np.sort(-found.confidence)
        holds = np.arange(2, len(rows) + 2) * (1 - falling) < factor
        count = int(np.flatnonzero(holds)[-1]) + 1 if holds.any() else 1
        canvas.commit(rows, found, _highest(found.confidence, count))


def by_entropy_bound(canvas: Canvas, random: np.random.Generator, *, gamma: float = 0.1) -> Steps:
    """Commit from the lowest entropy on, while the entropies of those before sum to `gamma` at most.

    Source: entropy-bounded unmasking, arXiv:2505.24857, algorithm 1.
    """
    del random
    if not gamma >= 0:
        raise SamplingError(f"gamma is {gamma}, expected 0 nats or more")
    while canvas.is_open.any():
        rows = canvas.open_rows
        found = yield rows
        order = np.argsort(found.entropy, kind="stable")
        before = np.cumsum(found.entropy[order], dtype=np.float64) - found.entropy[order]
        canvas.commit(rows, found, np.sort(order[before <= gamma + 1e-9]))


def _highest(score: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Indices of the `count` greatest scores, in order; of equal ones the first."""
    return np.sort(np.argsort(-score, kind="stable")[:count])


def _dream_score(found: Predictions, algorithm: str) -> Numbers:
    if algorithm == "maskgit_plus":
        return found.confidence
    if algorithm == "entropy":
        return -found.entropy
    if algorithm == "topk_margin":
        if found.top_confidence.shape[1] < 2:
            raise SamplingError("topk_margin compares two tokens; ask the denoiser for top_k of 2 or more")
        return found.top_confidence[:, 0] - found.top_confidence[:, 1]
    raise SamplingError(
        f"algorithm is {algorithm!r}, expected 'origin', 'maskgit_plus', 'topk_margin' or 'entropy'"
    )


def _looped(clean: NDArray[np.float64], loop: tuple[float, float] | None) -> list[tuple[float, float, bool]]:
    """Shares of clean positions at the two ends of each step, and whether the step is one of the loop."""
    pairs = list(pairwise(clean.tolist()))
    if loop is None:
        return [(a, b, False) for a, b in pairs]
    begin, end = loop
    if not 0 < end < begin < 1:
        raise SamplingError(f"loop is {loop}, expected times from > to between 1 and 0")
    steps = len(pairs)
    first, last = round((1 - begin) * steps), round((1 - end) * steps)
    outside = steps - (last - first)
    if first < 1 or outside - first < 1:
        raise SamplingError(f"loop is {loop}: {steps} steps leave none before or after it")
    still = clean[round(first / outside * steps)].item()
    before = np.interp(np.linspace(0, 1, first + 1), [0, 1], [clean[0], still])
    after = np.interp(np.linspace(0, 1, outside - first + 1), [0, 1], [still, clean[-1]])
    return [
        *((a, b, False) for a, b in pairwise(before.tolist())),
        *((still, still, True) for _ in range(last - first)),
        *((a, b, False) for a, b in pairwise(after.tolist())),
    ]


def _check_steps(num_steps: int, length: int | None) -> None:
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
        raise SamplingError(f"num_steps is {num_steps!r}, expected 1 or more")
    if length is not None and num_steps > length:
        raise SamplingError(f"num_steps is {num_steps}, expected at most {length}, the open positions")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SamplingError(f"{name} is {value}, expected 0 to 1")
