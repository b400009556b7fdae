"""The loop of training: what a run of any kind of card does, step by step, whatever is learned."""

from __future__ import annotations

import itertools
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.training.journal import Journal
from ai_os_diffusion.training.settings import BatchSettings, OptimizerSettings, ReportSettings
from ai_os_diffusion.training.torch.captured_step import CapturedStep
from ai_os_diffusion.training.torch.checkpoint import Checkpoint
from ai_os_diffusion.utils.errors import DeviceError, TrainingError
from ai_os_diffusion.utils.loss_picture import draw_losses

__all__ = ["LoopRecipe", "Tell", "TrainingLoop", "copy_values", "learning_rate"]

Tensor = Any
Tell = Callable[[dict[str, Any]], object]

_AHEAD = 4
"""Batches that a worker draws before they are asked for."""


class LoopRecipe(Protocol):
    """What the loop asks of a recipe."""

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        ...

    @property
    def dtype(self) -> str | None:
        """Of the products; None for the device's own."""
        ...

    @property
    def batch(self) -> BatchSettings:
        """What is computed at once."""
        ...

    @property
    def optimizer(self) -> OptimizerSettings:
        """AdamW and its rate."""
        ...

    @property
    def report(self) -> ReportSettings:
        """What is told and kept."""
        ...

    @property
    def fixed(self) -> dict[str, Any]:
        """What a run cannot change on its way, as JSON can hold it."""
        ...


def learning_rate(settings: OptimizerSettings, progress: float) -> float:
    """The rate at a part of the run, 0 to 1: up along a line, then down along a cosine."""
    warm = min(1.0, progress / settings.warm_up) if settings.warm_up else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.rate * warm * (settings.least_rate + (1 - settings.least_rate) * cosine)


class TrainingLoop(ABC):
    """A run. It goes on where its last state was saved.

    Who derives from it builds what learns and calls `_begin`.

    Args:
        recipe: what is trained.
        base: folder of the model.
        out: folder of the run: `card.parquet`, `state.pt`, `log.jsonl`, `loss.svg`.
        device: "auto", "cpu" or "cuda".
        tell: is told every line of the log.
        is_stopped: whether the run is to be broken off.

    Attributes:
        step: steps that were taken.
        is_first: of several processes, this is the one that tells and writes.

    Raises:
        DeviceError: the device is not there.
    """

    _journal: Journal | None
    _network: Any
    _optimizer: torch.optim.AdamW
    _loss: Any
    _take: Callable[[Sequence[Mapping[str, Tensor]]], Tensor]
    _is_captured = False
    """Whether steps may be one graph of a GPU: their batches are of one shape, and they wait for nothing."""

    def __init__(
        self,
        recipe: LoopRecipe,
        base: Path,
        out: Path,
        *,
        device: str,
        tell: Tell,
        is_stopped: Callable[[], bool],
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("device 'cuda' was asked for, and torch sees no GPU; expected one, or 'cpu'")
        self._settings, self._base, self._out = recipe, base, out
        self._tell, self._is_stopped = tell, is_stopped
        self._team = Accelerator(cpu=device == "cpu" or not torch.cuda.is_available())
        self._device, self.is_first = self._team.device, self._team.is_main_process
        torch.manual_seed(recipe.seed)
        if self._device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self.step, self._seconds = 0, 0.0

    @property
    def _dtype(self) -> Any:
        """Of the products."""
        own = "bfloat16" if self._device.type == "cuda" else "float32"
        return getattr(torch, self._settings.dtype or own)

    def _begin(self, network: Any, loss: Callable[[], torch.nn.Module], undecayed: frozenset[str]) -> None:
        """Take up what learns, as it begins or as the last state has it.

        Args:
            network: has `trained()`, parameters by the names of a card.
            loss: makes what computes the loss of a batch, which is asked for when the state is there.
            undecayed: names of matrices that do not decay, beside all vectors.

        Raises:
            TrainingError: the state is of another recipe.
        """
        self._network = network
        settings = self._settings.optimizer
        is_captured = self._is_captured and self._device.type == "cuda" and self._team.num_processes == 1
        self._optimizer = torch.optim.AdamW(
            _groups(network.trained(), settings.weight_decay, undecayed),
            # A graph reads its rate where it stands.
            lr=torch.zeros((), device=self._device) if is_captured else settings.rate,
            betas=settings.betas,
            fused=is_captured or None,
            capturable=is_captured,
        )
        self._take = CapturedStep(self._update) if is_captured else self._update
        state = Checkpoint.load(
            self._out / "state.pt", self._settings, self._team.num_processes, self._device
        )
        if state is not None:
            self.step, self._seconds = state.step, state.seconds
            copy_values(state.trained, network.trained())
            for group in state.optimizer["param_groups"]:
                # How a step is computed is this device's own.
                group |= {name: self._optimizer.defaults[name] for name in ("lr", "fused", "capturable")}
            self._optimizer.load_state_dict(state.optimizer)
            if state.second is not None:
                self._restore_second(state.second)
        self._loss = self._team.prepare(loss())
        self._journal = Journal(self._out / "log.jsonl", self.step) if self.is_first else None

    @abstractmethod
    def _batches(self) -> Any:
        """What gives batch k, arrays by name, for any k."""

    @abstractmethod
    def _write(self, trained: Mapping[str, NDArray[np.float32]], metrics: Mapping[str, Any]) -> Card:
        """Write the card; it is the last if `_progress` is 1."""

    def _measured(self) -> dict[str, float]:
        """What is measured whenever the card is saved."""
        return {}

    def _prepare_step(self) -> None:  # noqa: B027  # most runs have nothing to do here
        """Is called before every step."""

    def _end_step(self) -> None:  # noqa: B027  # likewise
        """Is called behind every step, before it counts."""

    def _second(self) -> dict[str, Tensor] | None:
        """Values beside those that are trained, by the same names, that the run goes on with."""
        return None

    def _restore_second(self, values: Mapping[str, Tensor]) -> None:  # noqa: B027  # likewise
        """Take up what `_second` gave."""

    def _kept(self) -> dict[str, Tensor]:
        """The values that the card gets."""
        found: dict[str, Tensor] = self._network.trained()
        return found

    def run(self) -> tuple[Card, bool]:
        """Train until the end, or until it is broken off.

        Returns:
            The card, and whether the run is at its end.

        Raises:
            TrainingError: the loss is no number any more; what was saved before stays.
        """
        if self._progress >= 1 and self._is_written:
            return Card(self._out / "card.parquet"), True
        report, stream = self._settings.report, self._stream()
        begun, losses = None, []
        while self._progress < 1 and not self._asked_to_stop:
            losses.append(self._advance([_next(stream) for _ in range(self._settings.batch.accumulate)]))
            now = time.monotonic()
            # The first step compiles, which is not training.
            self._seconds = self._agreed(self._seconds + (now - begun if begun else 0.0))
            begun = now
            if self.step % report.log_every == 0 or self._progress >= 1:
                loss = torch.stack(losses).mean().item()
                self._check(math.isfinite(loss))
                self._say(loss=round(loss, 5), rate=self._rate)
                losses = []
            if self.step % report.save_every == 0 and self._progress < 1:
                self._keep()
                begun = time.monotonic()
        card = self._keep()
        self._team.end_training()
        return card, self._progress >= 1

    @property
    def _is_written(self) -> bool:
        """Whether the card is that of this step."""
        path = self._out / "card.parquet"
        return path.is_file() and Card(path).description.metrics.get("steps") == self.step

    def _check(self, is_finite: bool) -> None:
        if not is_finite:
            raise TrainingError(
                f"step {self.step}: the loss has diverged, it is no number any more; lower optimizer.rate or "
                f"card.alpha. What {self._out} holds was saved before"
            )

    @property
    def last(self) -> dict[str, Any]:
        """The last line of the log that tells of a loss."""
        records = [] if self._journal is None else self._journal.records
        return next((record for record in reversed(records) if "loss" in record), {})

    @property
    def _progress(self) -> float:
        settings = self._settings.optimizer
        return min(1.0, self.step / settings.steps if settings.steps else self._seconds / settings.seconds)

    @property
    def _rate(self) -> float:
        return learning_rate(self._settings.optimizer, self._progress)

    @property
    def _asked_to_stop(self) -> bool:
        return bool(self._agreed(float(self._is_stopped())))

    def _agreed(self, value: float) -> float:
        """The first process's value, in all of them."""
        if self._team.num_processes == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self._device)
        return float(broadcast(shared).item())

    def _stream(self) -> Iterator[dict[str, Tensor]]:
        workers, team = self._settings.batch.workers, self._team
        first = self.step * self._settings.batch.accumulate * team.num_processes + team.process_index
        # Workers are begun anew, not forked: threads of the native code do not survive a fork.
        options: dict[str, Any] = {}
        if workers:
            options = {
                "multiprocessing_context": "spawn",
                "worker_init_fn": _ignore_interrupts,
                "prefetch_factor": _AHEAD,
            }
        loader = DataLoader(
            self._batches(),
            batch_size=None,
            sampler=itertools.count(first, team.num_processes),
            num_workers=workers,
            **options,
        )
        return iter(loader)

    def _advance(self, batches: list[dict[str, Tensor]]) -> Tensor:
        """One step of the optimizer."""
        self._prepare_step()
        for group in self._optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(self._rate)
            else:
                group["lr"] = self._rate
        loss = self._take(
            [
                {name: value.to(self._device, non_blocking=True) for name, value in batch.items()}
                for batch in batches
            ]
        )
        self._end_step()
        self.step += 1
        return loss

    def _update(self, batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Change what learns by batches on the device."""
        total = torch.zeros((), device=self._device)
        for index, batch in enumerate(batches):
            # Gradients are averaged once, with those of the last batch.
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else self._team.no_sync(self._loss):
                loss = self._loss(batch) / len(batches)
                self._team.backward(loss)
            total += loss.detach()
        self._team.clip_grad_norm_(self._network.trained().values(), self._settings.optimizer.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _keep(self) -> Card:
        """Save the state and the card as it is, and tell how good it is; in the first process."""
        path = self._out / "card.parquet"
        if self.is_first:
            trained = self._network.trained()
            self._check(all(bool(value.isfinite().all()) for value in trained.values()))
            measured = self._measured()
            if measured:
                self._say(**measured)
            Checkpoint(self.step, self._seconds, trained, self._optimizer.state_dict(), self._second()).save(
                self._out / "state.pt", self._settings, self._team.num_processes
            )
            metrics = {"steps": self.step, "positions": self._tokens, **measured}
            metrics |= {key: value for key, value in self.last.items() if key == "loss"}
            kept = {name: value.detach().float().cpu().numpy() for name, value in self._kept().items()}
            self._write(kept, metrics)
            assert self._journal is not None
            draw_losses(self._journal.records, self._out / "loss.svg")
        self._team.wait_for_everyone()
        return Card(path)

    @property
    def _tokens(self) -> int:
        batch = self._settings.batch
        processes: int = self._team.num_processes
        return self.step * batch.accumulate * processes * batch.rows * batch.length

    def _say(self, **record: float) -> None:
        if self._journal is not None:
            line = {"step": self.step, "seconds": round(self._seconds, 1), "tokens": self._tokens, **record}
            self._journal.add(line)
            self._tell({**line, "progress": self._progress})


def _groups(
    trained: Mapping[str, Tensor], weight_decay: float, undecayed: frozenset[str]
) -> list[dict[str, Any]]:
    """Matrices decay; norms, biases and rows of the embedding do not."""
    groups: list[list[Tensor]] = [[], []]
    for name, value in trained.items():
        groups[value.ndim == 1 or name in undecayed].append(value)
    return [
        {"params": groups[0], "weight_decay": weight_decay},
        {"params": groups[1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def copy_values(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy tensors by name."""
    for name, value in into.items():
        value.copy_(values[name])


def _next(stream: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The next batch.

    Raises:
        TrainingError: as where it was drawn; of a worker torch would tell the whole way there.
    """
    try:
        return next(stream)
    except TrainingError as error:
        _, _, said = str(error).rpartition(f"{TrainingError.__name__}: ")
        raise TrainingError(said.rstrip()) from error


def _ignore_interrupts(_worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, and the first decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
