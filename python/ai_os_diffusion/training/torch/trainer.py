"""The loop of training."""

from __future__ import annotations

import itertools
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch.utils.data import DataLoader

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.batches import Batches, validation_batches
from ai_os_diffusion.training.card_file import CardFile
from ai_os_diffusion.training.journal import Journal
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.training.samples import write_samples
from ai_os_diffusion.training.settings import OptimizerSettings
from ai_os_diffusion.training.text_encoder import TextEncoder
from ai_os_diffusion.training.torch.attention import Attention
from ai_os_diffusion.training.torch.checkpoint import Checkpoint
from ai_os_diffusion.training.torch.network import TrainedDecoder
from ai_os_diffusion.training.torch.objective import DistillationLoss, TokenLoss
from ai_os_diffusion.utils.errors import DeviceError, TrainingError
from ai_os_diffusion.utils.loss_picture import draw_losses

__all__ = ["Trainer", "learning_rate", "load_card"]

Tensor = Any
Tell = Callable[[dict[str, Any]], object]

_AHEAD = 4
"""Batches that a worker draws before they are asked for."""


def learning_rate(settings: OptimizerSettings, progress: float) -> float:
    """The rate at a part of the run, 0 to 1: up along a line, then down along a cosine."""
    warm = min(1.0, progress / settings.warm_up) if settings.warm_up else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.rate * warm * (settings.least_rate + (1 - settings.least_rate) * cosine)


class Trainer:
    """A run. It goes on where its last state was saved.

    Args:
        recipe: what is trained.
        base: folder of the model.
        out: folder of the run: `card.parquet`, `state.pt`, `log.jsonl`, `loss.svg`, `samples.txt`.
        device: "auto", "cpu" or "cuda".
        data_sha256: digest of the data.
        tell: is told every line of the log.
        is_stopped: whether the run is to be broken off.

    Attributes:
        step: steps that were taken.
        is_first: of several processes, this is the one that tells and writes.

    Raises:
        TrainingError: the state is of another recipe.
        DeviceError: the device is not there.
        ModelLoadError: the base cannot be trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        out: Path,
        *,
        device: str,
        data_sha256: str | None,
        tell: Tell,
        is_stopped: Callable[[], bool],
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("device 'cuda' was asked for, and torch sees no GPU; expected one, or 'cpu'")
        self._recipe, self._base, self._out = recipe, base, out
        self._tell, self._is_stopped = tell, is_stopped
        self._team = Accelerator(cpu=device == "cpu" or not torch.cuda.is_available())
        self._device, self.is_first = self._team.device, self._team.is_main_process
        torch.manual_seed(recipe.seed)
        if self._device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self._encoder = TextEncoder(base, recipe.card, masks=recipe.objective != "causal")
        self.decoder = self._decoder()
        self._file = CardFile(recipe, base, self._encoder.special, self.decoder.scaling, data_sha256)
        self._file.check()
        if recipe.start is not None:
            load_card(self.decoder, Card(recipe.start), self._rows)
        self._teacher = self._decoder().requires_grad_(False) if recipe.distill is not None else None
        self._optimizer = torch.optim.AdamW(
            _groups(self.decoder, recipe.optimizer.weight_decay), betas=recipe.optimizer.betas
        )
        self.step, self._seconds, self._round = 0, 0.0, -1
        self._resume()
        attention = Attention.on(self._device, self.decoder)
        self.token_loss = TokenLoss(self.decoder, attention)
        loss: torch.nn.Module = self.token_loss
        if recipe.distill is not None:
            assert self._teacher is not None
            loss = DistillationLoss(self.decoder, self._teacher, attention, recipe.distill.steps)
        self._loss = self._team.prepare(loss)
        self._journal = Journal(out / "log.jsonl", self.step) if self.is_first else None

    def run(self) -> tuple[Card, bool]:
        """Train until the end, or until it is broken off.

        Returns:
            The card, and whether the run is at its end.

        Raises:
            TrainingError: the loss is no number any more; what was saved before stays.
        """
        if self._progress >= 1 and self._is_written:
            return Card(self._out / "card.parquet"), True
        report, stream = self._recipe.report, self._stream()
        begun, losses = None, []
        while self._progress < 1 and not self._asked_to_stop:
            losses.append(self._advance([_next(stream) for _ in range(self._recipe.batch.accumulate)]))
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
    def _rows(self) -> tuple[int, ...]:
        special = self._encoder.special
        return () if self._recipe.objective == "causal" else (special.mask, special.null)

    def _decoder(self) -> TrainedDecoder:
        recipe = self._recipe
        dtype = recipe.dtype or ("bfloat16" if self._device.type == "cuda" else "float32")
        weights = DeviceWeights(
            WeightFile(self._base / "weights.parquet"), self._device, getattr(torch, dtype)
        )
        return TrainedDecoder.begun(
            weights,
            ModelMetadata.from_folder(self._base),
            self._rows,
            rank=0 if recipe.method == "full" else recipe.card.rank,
            alpha=recipe.card.alpha,
            recompute=recipe.batch.recompute,
        )

    def _resume(self) -> None:
        state = Checkpoint.load(self._out / "state.pt", self._recipe, self._team.num_processes, self._device)
        if state is not None:
            self.step, self._seconds = state.step, state.seconds
            _copy(state.trained, self.decoder)
            self._optimizer.load_state_dict(state.optimizer)
            if self._teacher is not None and state.teacher is not None:
                _copy(state.teacher, self._teacher)
                self._round = self._current_round

    @property
    def _progress(self) -> float:
        settings = self._recipe.optimizer
        return min(1.0, self.step / settings.steps if settings.steps else self._seconds / settings.seconds)

    @property
    def _rate(self) -> float:
        return learning_rate(self._recipe.optimizer, self._progress)

    @property
    def _current_round(self) -> int:
        assert self._recipe.distill is not None
        return min(int(self._progress * self._recipe.distill.rounds), self._recipe.distill.rounds - 1)

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
        workers, team = self._recipe.batch.workers, self._team
        first = self.step * self._recipe.batch.accumulate * team.num_processes + team.process_index
        # Workers are begun anew, not forked: threads of the native code do not survive a fork.
        options: dict[str, Any] = {}
        if workers:
            options = {
                "multiprocessing_context": "spawn",
                "worker_init_fn": _ignore_interrupts,
                "prefetch_factor": _AHEAD,
            }
        loader = DataLoader(
            Batches(self._base, self._recipe),
            batch_size=None,
            sampler=itertools.count(first, team.num_processes),
            num_workers=workers,
            **options,
        )
        return iter(loader)

    def _advance(self, batches: list[dict[str, Tensor]]) -> Tensor:
        """One step of the optimizer."""
        if self._teacher is not None and self._round != self._current_round:
            self._round = self._current_round
            _copy(self.decoder.trained(), self._teacher)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate
        total = torch.zeros((), device=self._device)
        for index, batch in enumerate(batches):
            on_device = {name: value.to(self._device, non_blocking=True) for name, value in batch.items()}
            # Gradients are averaged once, with those of the last batch.
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else self._team.no_sync(self._loss):
                loss = self._loss(on_device) / len(batches)
                self._team.backward(loss)
            total += loss.detach()
        self._team.clip_grad_norm_(self.decoder.parameters(), self._recipe.optimizer.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    @torch.no_grad()
    def _validation_loss(self) -> float:
        found = [
            self.token_loss({name: torch.from_numpy(value).to(self._device) for name, value in batch.items()})
            for batch in validation_batches(self._base, self._recipe)
        ]
        if not found:
            raise TrainingError("no example of data.validation fits into batch.longest; raise it")
        return float(torch.stack(found).mean())

    def _keep(self) -> Card:
        """Save the state and the card as it is, and tell how good it is; in the first process."""
        path = self._out / "card.parquet"
        if self.is_first:
            self._check(all(bool(value.isfinite().all()) for value in self.decoder.trained().values()))
            measured = {}
            if self._recipe.data.validation:
                measured["validation_loss"] = round(self._validation_loss(), 5)
                self._say(**measured)
            teacher = None if self._teacher is None else self._teacher.trained()
            Checkpoint(
                self.step, self._seconds, self.decoder.trained(), self._optimizer.state_dict(), teacher
            ).save(self._out / "state.pt", self._recipe, self._team.num_processes)
            metrics = {"steps": self.step, "positions": self._tokens, **measured}
            metrics |= {key: value for key, value in self.last.items() if key == "loss"}
            trained = {
                name: value.detach().float().cpu().numpy() for name, value in self.decoder.trained().items()
            }
            card = self._file.write(self._out, trained, metrics, is_last=self._progress >= 1)
            assert self._journal is not None
            draw_losses(self._journal.records, self._out / "loss.svg")
            write_samples(self._recipe, self._base, self._encoder, card, self._out, self.step)
        self._team.wait_for_everyone()
        return Card(path)

    @property
    def _tokens(self) -> int:
        batch = self._recipe.batch
        processes: int = self._team.num_processes
        return self.step * batch.accumulate * processes * batch.rows * batch.length

    def _say(self, **record: float) -> None:
        if self._journal is not None:
            line = {"step": self.step, "seconds": round(self._seconds, 1), "tokens": self._tokens, **record}
            self._journal.add(line)
            self._tell({**line, "progress": self._progress})


def load_card(decoder: TrainedDecoder, card: Card, rows: tuple[int, ...]) -> None:
    """Go on from a card.

    Raises:
        TrainingError: it has other tensors than are trained, or of other shapes, or other rows.
    """
    trained, place = decoder.trained(), f"start: {card.path}"
    if card.description.row_ids != rows:
        raise TrainingError(
            f"{place}: has rows of the tokens {list(card.description.row_ids)}, trained are {list(rows)}"
        )
    if odd := sorted(set(card) ^ set(trained)):
        has = "has" if odd[0] in card else "lacks"
        raise TrainingError(f"{place}: {has} {odd[0]!r}; expected exactly what this run trains")
    with torch.no_grad():
        for name, value in trained.items():
            found = torch.from_numpy(card[name]).to(value)
            if found.shape != value.shape:
                raise TrainingError(
                    f"{place}: {name!r} is {list(found.shape)}, trained is {list(value.shape)}: "
                    "is card.rank that of the card?"
                )
            if name.endswith(".lora_B.weight"):
                found = found * (card.description.scaling / decoder.scaling)
            value.copy_(found)


def _groups(decoder: TrainedDecoder, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; norms, biases and rows of the embedding do not."""
    vectors = [
        value for name, value in decoder.trained().items() if value.ndim == 1 or name == decoder.rows_name
    ]
    kept = {id(value) for value in vectors}
    matrices = [value for value in decoder.trained().values() if id(value) not in kept]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


@torch.no_grad()
def _copy(values: dict[str, Tensor], decoder: TrainedDecoder) -> None:
    for name, value in decoder.trained().items():
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
