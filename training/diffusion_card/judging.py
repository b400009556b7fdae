"""How good a card is: grounded answers judged as SQuAD does, the harder kinds by equal values."""

from __future__ import annotations

import gzip
import json
import random
import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from decoder import Decoder, KeptKeys
from examples import NOT_STATED, Example, Examples, Piece, ask
from packing import END, MASK, NULL, TextEncoder, canvas
from torch import Tensor
from torch.nn import functional

THRESHOLD = 0.9
_BATCH = 64
_FRESH_KINDS = {"unanswerable": 16, "yes_no": 32, "two_parts": 32, "template": 16}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for an example.

    Attributes:
        texts: one for every written piece.
        passes: forward passes until all of it was there.
        log_confidence: sum of the logarithms of the confidences at which positions were committed.
    """

    texts: tuple[str, ...]
    passes: int
    log_confidence: float


def normalised(text: str) -> str:
    """As SQuAD compares: no case, punctuation, articles."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(said: str, answer: str) -> float:
    """Harmonic mean of precision and recall over words."""
    ours, theirs = normalised(said).split(), normalised(answer).split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else float(ours == theirs)


def squad_questions(data: Path, count: int) -> list[tuple[Example, list[str]]]:
    """Questions of `squad_dev_a` on their own paragraph, always the same, with all their answers."""
    with gzip.open(data / "squad_dev_a" / "corpus.jsonl.gz", "rt") as lines:
        paragraphs = {row["id"]: row["text"] for row in map(json.loads, lines)}
    with gzip.open(data / "squad_dev_a" / "questions.jsonl.gz", "rt") as lines:
        questions = [json.loads(line) for line in lines]
    return [
        (
            Example(
                "grounded", ask(paragraphs[row["paragraph_id"]], row["question"]), (Piece(row["answer"]),)
            ),
            row["answers"],
        )
        for row in random.Random(0).sample(questions, count)
    ]


class Judge:
    """Judges a decoder on the same examples every time."""

    def __init__(self, data: Path, encoder: TextEncoder, *, count: int, objective: str) -> None:
        self._encoder, self._objective = encoder, objective
        self._squad = squad_questions(data, count)
        drawn, rng = Examples(data, held_out=True), random.Random(1)
        self._fresh = {kind: [getattr(drawn, kind)(rng) for _ in range(count // 2)] for kind in _FRESH_KINDS}

    def quick(self, decoder: Decoder, device: str) -> dict[str, float]:
        """Grounded answers alone."""
        written = self._write(decoder, [example for example, _ in self._squad], 16, device)
        answers = [answers for _, answers in self._squad]
        right = [
            any(normalised(one.texts[0]) == normalised(a) for a in good)
            for one, good in zip(written, answers, strict=True)
        ]
        f1 = [
            max(token_f1(one.texts[0], a) for a in good) for one, good in zip(written, answers, strict=True)
        ]
        return {
            "exact": _percent(right),
            "f1": _percent(f1),
            "passes": round(sum(one.passes for one in written) / len(written), 2),
            "auroc": round(_auroc([-one.log_confidence for one in written], [not r for r in right]), 3),
            "declined": _percent([normalised(one.texts[0]) == NOT_STATED for one in written]),
        }

    def whole(self, decoder: Decoder, device: str) -> dict[str, float]:
        """All kinds."""
        found = self.quick(decoder, device)
        for kind, block in _FRESH_KINDS.items():
            if kind == "template" and self._objective == "causal":
                continue
            written = self._write(decoder, self._fresh[kind], block, device)
            slots = [
                (said, piece.text)
                for one, example in zip(written, self._fresh[kind], strict=True)
                for said, piece in zip(
                    one.texts, (piece for piece in example.pieces if piece.written), strict=True
                )
            ]
            full = [(said, text) for said, text in slots if text]
            found[kind] = _percent([normalised(said) == normalised(text) for said, text in full])
            if kind in ("yes_no", "two_parts"):
                found[f"{kind}_f1"] = _percent([token_f1(said, text) for said, text in full])
            if kind == "yes_no":
                found["verdict"] = _percent([_verdict(said) == _verdict(text) for said, text in full])
            if kind == "template":
                found["left_empty"] = _percent([not said.strip() for said, text in slots if not text])
        return found

    def _write(self, decoder: Decoder, examples: list[Example], block: int, device: str) -> list[Written]:
        written: dict[int, Written] = {}
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].prompt))
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            found = write(decoder, self._encoder, [examples[i] for i in part], block, device, self._objective)
            written.update(zip(part, found, strict=True))
        return [written[i] for i in range(len(examples))]


@torch.no_grad()
def write(
    decoder: Decoder, encoder: TextEncoder, examples: list[Example], block: int, device: str, objective: str
) -> list[Written]:
    """Write the open pieces: by confidence, several positions a pass (arXiv:2505.22618), or left to right."""
    prompts = [encoder.prompt(example.prompt) for example in examples]
    frames = [_frame(encoder, example, block) for example in examples]
    reading = Reading(decoder, prompts, device, is_causal=objective == "causal")
    if objective == "causal":
        written = left_to_right(reading, max(map(len, frames)))
    else:
        written = _by_confidence(reading, frames)
    ids, passes, confidence = written
    return [
        Written(_slots(encoder, frame, row), int(used), float(sure))
        for frame, row, used, sure in zip(frames, ids.tolist(), passes, confidence, strict=True)
    ]


class Reading:
    """Prompts that were read once, their keys kept; blocks behind them are computed alone.

    Args:
        decoder: reads.
        prompts: ids, of any lengths.
        device: where.
        is_causal: a position of a prompt sees those before it, not all of its prompt.
    """

    def __init__(
        self, decoder: Decoder, prompts: list[list[int]], device: str, *, is_causal: bool = False
    ) -> None:
        self.decoder, self.device = decoder, device
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        before = int(self.lengths.max())
        # To the right, so that the last of each stands at the end.
        self._real = torch.arange(before, device=device) >= before - self.lengths[:, None]
        ids = torch.full((len(prompts), before), NULL)
        for row, prompt in enumerate(prompts):
            ids[row, before - len(prompt) :] = torch.tensor(prompt)
        at = torch.arange(before, device=device)
        seen = self._real[:, None, :] & ((at[None, :] <= at[:, None]) | (not is_causal))
        # A row of padding sees itself, for a softmax over nothing is not a number.
        mask = (seen | (at[None, :] == at[:, None]))[:, None]
        positions = (self._real.cumsum(1) - 1).clamp_min(0)
        self._keys = KeptKeys()
        self.last = decoder(ids.to(device), positions, self._keys.begin(keeps=True), mask)[:, -1:]

    def block(self, ids: Tensor, *, real: Tensor | None = None) -> Tensor:
        """States of ids[b, n] behind the prompts, which see each other where they are real."""
        n = ids.shape[1]
        own = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        own = own[:, None, :] | torch.eye(n, dtype=torch.bool, device=ids.device)
        seen = torch.cat([self._real[:, None, :].expand(-1, n, -1), own], 2)[:, None]
        positions = self.lengths[:, None] + torch.arange(n, device=ids.device)
        return self.decoder(ids, positions, self._keys.begin(keeps=False), seen)

    def token(self, ids: Tensor) -> Tensor:
        """States of ids[b, 1], which the prompts end with from now on."""
        self._real = functional.pad(self._real, (0, 1), value=True)
        seen = self._real[:, None, None, :]
        states = self.decoder(ids, self.lengths[:, None], self._keys.begin(keeps=True), seen)
        self.lengths = self.lengths + 1
        return states


def _by_confidence(reading: Reading, frames: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(map(len, frames))
    padded = [frame + [NULL] * (longest - len(frame)) for frame in frames]
    ids = torch.tensor(padded, device=reading.device)
    lengths = torch.tensor([len(frame) for frame in frames], device=reading.device)
    real = torch.arange(longest, device=reading.device) < lengths[:, None]
    passes = torch.zeros(len(frames), device=reading.device)
    confidence = torch.zeros_like(passes)
    for _ in range(longest):
        is_open = ids == MASK
        if not is_open.any():
            break
        logits = reading.decoder.logits(reading.block(ids, real=real))
        logits[..., MASK] = -torch.inf
        best, chosen = logits.softmax(-1).max(-1)
        score = torch.where(is_open, best, -1.0)
        taken = is_open & ((score >= THRESHOLD) | (score == score.amax(-1, keepdim=True)))
        passes += is_open.any(-1)
        confidence += torch.where(taken, best.log(), 0.0).sum(-1)
        ids = torch.where(taken, chosen, ids)
    return ids, passes, confidence


def left_to_right(
    reading: Reading, longest: int, choose: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Write up to `longest` tokens behind each prompt.

    Args:
        reading: the prompts.
        longest: most tokens.
        choose: takes a token of each by float32[b, vocabulary] of log-probabilities.

    Returns:
        int64[b, longest], NULL behind an end; tokens written, and the sum of their log-probabilities.
    """
    count = len(reading.lengths)
    ids = torch.full((count, longest), NULL, device=reading.device)
    passes = torch.zeros(count, device=reading.device)
    confidence = torch.zeros_like(passes)
    ended = torch.zeros(count, dtype=torch.bool, device=reading.device)
    states = reading.last
    for step in range(longest):
        logs = reading.decoder.logits(states[:, 0]).log_softmax(-1)
        chosen = choose(logs) if choose else logs.argmax(-1)
        best = logs.gather(1, chosen[:, None])[:, 0]
        chosen = torch.where(ended, NULL, chosen)
        confidence += torch.where(ended, 0.0, best)
        passes += ~ended
        ids[:, step] = chosen
        ended |= chosen == END
        if ended.all():
            break
        states = reading.token(chosen[:, None])
    return ids, passes, confidence


def _frame(encoder: TextEncoder, example: Example, block: int) -> list[int]:
    if example.kind != "template":
        return [MASK] * block
    # Each slot has the same room, so that its length tells nothing.
    empty = tuple(Piece("", written=True) if piece.written else piece for piece in example.pieces)
    ids, written = canvas(encoder, Example(example.kind, example.prompt, empty, example.room), block)
    return [MASK if is_open else i for i, is_open in zip(ids, written, strict=True)]


def _slots(encoder: TextEncoder, frame: list[int], row: list[int]) -> tuple[str, ...]:
    slots: list[list[int]] = []
    for index, given in enumerate(frame):
        if given == MASK:
            if index == 0 or frame[index - 1] != MASK:
                slots.append([])
            slots[-1].append(row[index])
    return tuple(map(encoder.decode, slots))


def _verdict(answer: str) -> str:
    """The word before the reason."""
    return normalised(answer.partition(":")[0])


def _percent(values: list[float]) -> float:
    return round(100 * sum(values) / max(1, len(values)), 2)


def _auroc(scores: list[float], labels: list[bool]) -> float:
    """Chance that a labelled one scores higher than one that is not; ties by order."""
    ranks = [rank for rank, (_, label) in enumerate(sorted(zip(scores, labels, strict=True)), 1) if label]
    others = len(labels) - len(ranks)
    return (sum(ranks) - len(ranks) * (len(ranks) + 1) / 2) / max(1, len(ranks) * others)
