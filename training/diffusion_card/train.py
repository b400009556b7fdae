"""Train a card that turns SmolLM2 into a masked diffusion model, or one for the next token beside it."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed
import torch.utils.checkpoint
from decoder import Decoder, dense_attention, quantised, read_gguf
from judging import Judge
from packing import MIXTURE, Batches, TextEncoder, visible
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

WARM_UP = 0.02
LEAST_RATE = 0.01
_HEAD_ROWS = 8192
"""Labels whose logits are held at a time."""


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with reader/, train/ and squad_dev_a/"
    )
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct as GGUF")
    parser.add_argument("--tokenizer", type=Path, required=True, help="its tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the card, the log and the state")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument(
        "--seconds", type=float, help="time to train, judgements in between counted; the rate follows it"
    )
    end.add_argument("--until", type=float, help="or train to this time of the clock, in seconds since 1970")
    parser.add_argument("--card", type=Path, help="begin from this card, of the same rank")
    parser.add_argument("--objective", choices=("diffusion", "causal"), default="diffusion")
    parser.add_argument(
        "--kinds", help="kinds of examples, with commas between; by default the mixture of packing.py"
    )
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--accumulate", type=int, default=2, help="batches a step")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge-every", type=float, default=240, help="seconds between two judgements")
    parser.add_argument("--questions", type=int, default=500, help="questions to judge by; 0 judges nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def learning_rate(progress: float) -> float:
    """Share of the full rate: up in `WARM_UP`, then down along a cosine to `LEAST_RATE`."""
    return min(1.0, progress / WARM_UP) * (
        LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    )


class Attending:
    """Attention under the mask of a packed batch: in blocks on a GPU, dense elsewhere."""

    def __init__(self, decoder: Decoder, length: int, device: str) -> None:
        self._length, self._device = length, device
        self._make = None
        if device.startswith("cuda"):
            from torch.nn.attention.flex_attention import create_block_mask

            # One program serves all layers; each counts as a recompilation of the first.
            torch._dynamo.config.recompile_limit = 2 * len(decoder.layers)
            self._make = torch.compile(create_block_mask)
            for layer in decoder.layers:
                layer.compile(dynamic=False)

    def mask(self, batch: dict[str, Tensor]) -> object:
        """What the positions of a batch see."""
        document, level, noisy = batch["document"], batch["level"], batch["noisy"]
        if self._make is None:
            q, k = torch.arange(self._length)[:, None], torch.arange(self._length)[None]
            rows = zip(document, level, noisy, strict=True)
            return torch.stack([visible(*row, q, k) | (q == k) for row in rows])[:, None]

        def sees(row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001
            return visible(document[row], level[row], noisy[row], q, k)

        return self._make(sees, len(document), None, self._length, self._length, device=self._device)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: object) -> Tensor:
        """(q[b, heads, n, d], k and v[b, key heads, n, d], a mask of `mask`) -> [b, heads, n, d]."""
        if self._make is None:
            return dense_attention(q, k, v, mask)
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)


def loss_of(decoder: Decoder, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Weighted mean cross-entropy of the labels; logits are made again for the backward pass."""
    chosen = batch["labels"] >= 0
    hidden, labels, weights = hidden[chosen], batch["labels"][chosen].long(), batch["weights"][chosen]

    def part(h: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return (functional.cross_entropy(decoder.logits(h), y, reduction="none") * w).sum()

    pieces = zip(hidden.split(_HEAD_ROWS), labels.split(_HEAD_ROWS), weights.split(_HEAD_ROWS), strict=True)
    total = sum(torch.utils.checkpoint.checkpoint(part, *piece, use_reentrant=False) for piece in pieces)
    return total / weights.sum().clamp_min(1e-6)


class Team:
    """The processes that train one card together, as `torchrun` starts them; alone without it."""

    def __init__(self, device: str) -> None:
        self.rank, self.size = (
            int(os.environ.get(name, d)) for name, d in (("RANK", "0"), ("WORLD_SIZE", "1"))
        )
        self.device = device
        if self.size > 1:
            on_gpu = device.startswith("cuda")
            torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
            if on_gpu:
                self.device = f"cuda:{os.environ['LOCAL_RANK']}"
                torch.cuda.set_device(self.device)

    def average(self, parameters: list[Tensor]) -> None:
        """Make every gradient the mean of those of all processes."""
        if self.size == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters])
        torch.distributed.all_reduce(flat)
        parts = (flat / self.size).split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            p.grad.copy_(part.view_as(p))

    def agreed(self, value: float) -> float:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, 0)
        return shared.item()


class Training:
    """A run: its decoder, its optimizer, and how far it is. It resumes where its last state was saved."""

    def __init__(self, a: argparse.Namespace) -> None:
        self._a = a
        self._team = Team(a.device)
        a.device = self._team.device
        a.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(a.seed)
        torch.set_float32_matmul_precision("high")
        self.decoder = Decoder(read_gguf(a.base), a.rank).to(a.device)
        if a.card:
            self.decoder.begin_from(load_file(a.card))
        factors = [p for n, p in self.decoder.named_parameters() if n.endswith((".a", ".b"))]
        others = [p for n, p in self.decoder.named_parameters() if not n.endswith((".a", ".b"))]
        groups = [{"params": factors, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=a.rate, betas=(0.9, 0.98))
        self._step, self._seconds = 0, 0.0
        self._state = a.out / "state.pt"
        if self._state.exists():
            state = torch.load(self._state, map_location=a.device)
            self.decoder.load_state_dict(state["decoder"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._step, self._seconds = state["step"], state["seconds"]
        # Its workers read their data while this process reads its own.
        self._stream = self._batches()
        self._judge = (
            Judge(a.data, TextEncoder(a.tokenizer), count=a.questions, objective=a.objective)
            if a.questions
            else None
        )
        self._attending = Attending(self.decoder, a.length, a.device)
        self._end = a.seconds or self._seconds + a.until - time.time()

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        a = self._a
        batches = Batches(
            a.data,
            a.tokenizer,
            rows=a.rows,
            length=a.length,
            seed=a.seed,
            objective=a.objective,
            mixture=dict.fromkeys(a.kinds.split(","), 1.0) if a.kinds else MIXTURE,
        )
        first = self._step * a.accumulate * self._team.size + self._team.rank
        sampler = itertools.count(first, self._team.size)
        return iter(
            torch.utils.data.DataLoader(batches, batch_size=None, sampler=sampler, num_workers=a.workers)
        )

    def run(self) -> None:
        """Train until the time is over, then judge and write the card."""
        a, team = self._a, self._team
        judged, begun, losses = self._seconds, None, []
        while self._seconds < self._end:
            losses.append(self._advance([next(self._stream) for _ in range(a.accumulate)]))
            now = time.monotonic()
            if begun is None:
                # The first step compiles, which is not training.
                self._end = team.agreed(a.seconds or self._seconds + a.until - time.time())
            else:
                self._seconds = team.agreed(self._seconds + now - begun)
            begun = now
            if self._step % 50 == 0:
                self._say(loss=round(torch.stack(losses).mean().item(), 4))
                losses = []
            if self._seconds - judged >= a.judge_every:
                judged = self._seconds
                self._rest("quick")
        self._rest("whole")

    def _rest(self, judgement: str) -> None:
        """Judge and save, in the first process; the others wait for it."""
        if self._team.rank == 0:
            self.save()
            if self._judge:
                self._say(**self._judged(getattr(self._judge, judgement)))
        self._team.agreed(0.0)

    def _advance(self, batches: list[dict[str, Tensor]]) -> Tensor:
        rate = self._a.rate * learning_rate(min(1.0, self._seconds / self._end))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self._a.device)
        for batch in batches:
            batch = {name: value.to(self._a.device, non_blocking=True) for name, value in batch.items()}
            hidden = self.decoder(
                batch["ids"].long(), batch["positions"], self._attending, self._attending.mask(batch)
            )
            loss = loss_of(self.decoder, hidden, batch) / len(batches)
            loss.backward()
            total += loss.detach()
        self._team.average(list(self.decoder.parameters()))
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1
        return total

    def _judged(self, judgement) -> dict[str, float]:
        # Lengths differ from batch to batch: compiling each would take longer than judging.
        torch.compiler.set_stance("force_eager")
        try:
            return judgement(self.decoder, self._a.device)
        finally:
            torch.compiler.set_stance("default")

    def save(self) -> None:
        """Write the state, whole or not at all, and the card as it is."""
        draft = self._state.with_suffix(".draft")
        state = {"decoder": self.decoder.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state | {"step": self._step, "seconds": self._seconds}, draft)
        draft.replace(self._state)
        facts = {
            "rank": self._a.rank,
            "alpha": 16,
            "use_rslora": "true",
            "objective": self._a.objective,
            "tokens": self._tokens,
        }
        save_file(
            quantised(self.decoder.card()),
            self._a.out / "card.safetensors",
            {k: str(v) for k, v in facts.items()},
        )

    @property
    def _tokens(self) -> int:
        return self._step * self._a.accumulate * self._team.size * self._a.rows * self._a.length

    def _say(self, **record: float) -> None:
        if self._team.rank:
            return
        line = json.dumps(
            {"step": self._step, "seconds": round(self._seconds), "tokens": self._tokens} | record
        )
        print(line, flush=True)
        with (self._a.out / "log.jsonl").open("a") as log:
            log.write(line + "\n")


if __name__ == "__main__":
    Training(arguments()).run()
