"""How good a card is: grounded answers judged as SQuAD does, the harder kinds by equal values."""

from __future__ import annotations

import gzip
import json
import random
import re
import string
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from decoder import Decoder, dense_attention
from examples import NOT_STATED, Example, Examples, Piece, ask
from packing import END, MASK, NULL, TextEncoder, canvas

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
            found[kind] = _percent([normalised(said) == normalised(text) for said, text in slots if text])
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
    before, behind = max(map(len, prompts)), max(map(len, frames))
    ids = torch.full((len(examples), before + behind), NULL)
    positions = torch.zeros_like(ids)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, frame) in enumerate(zip(prompts, frames, strict=True)):
        span = slice(before - len(prompt), before + len(frame))
        ids[row, span] = torch.tensor(prompt + frame)
        positions[row, span] = torch.arange(len(prompt) + len(frame))
        real[row, span] = True
    ids, positions, real = ids.to(device), positions.to(device), real.to(device)
    at = torch.arange(before + behind, device=device)
    if objective == "causal":
        seen = at[None, :] <= at[:, None]
    else:
        seen = (at[None, :] < before) | (at[:, None] >= before)
    # A row of padding sees itself, for a softmax over nothing is not a number.
    mask = ((real[:, None, :] & seen) | (at[None, :] == at[:, None]))[:, None]
    passes, confidence = torch.zeros(len(examples), device=device), torch.zeros(len(examples), device=device)
    ended = torch.zeros(len(examples), dtype=torch.bool, device=device)
    for step in range(behind):
        is_open = ids[:, before:] == MASK
        if not is_open.any() or ended.all():
            break
        hidden = decoder(ids, positions, dense_attention, mask)
        if objective == "causal":
            best, chosen = decoder.logits(hidden[:, before + step - 1]).log_softmax(-1).max(-1)
            chosen = torch.where(ended, NULL, chosen)
            confidence += torch.where(ended, 0.0, best)
            passes += ~ended
            ids[:, before + step] = chosen
            ended |= chosen == END
            continue
        logits = decoder.logits(hidden[:, before:])
        logits[..., MASK] = -torch.inf
        best, chosen = logits.softmax(-1).max(-1)
        score = torch.where(is_open, best, -1.0)
        taken = is_open & ((score >= THRESHOLD) | (score == score.amax(-1, keepdim=True)))
        passes += is_open.any(-1)
        confidence += torch.where(taken, best.log(), 0.0).sum(-1)
        ids[:, before:] = torch.where(taken, chosen, ids[:, before:])
    return [
        Written(_slots(encoder, frame, row), int(used), float(sure))
        for frame, row, used, sure in zip(frames, ids[:, before:].tolist(), passes, confidence, strict=True)
    ]


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


def _percent(values: list[float]) -> float:
    return round(100 * sum(values) / max(1, len(values)), 2)


def _auroc(scores: list[float], labels: list[bool]) -> float:
    """Chance that a labelled one scores higher than one that is not; ties by order."""
    ranks = [rank for rank, (_, label) in enumerate(sorted(zip(scores, labels, strict=True)), 1) if label]
    others = len(labels) - len(ranks)
    return (sum(ranks) - len(ranks) * (len(ranks) + 1) / 2) / max(1, len(ranks) * others)
