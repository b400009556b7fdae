"""New questions about passages: one card asks, and what another card answers right is kept.

    python train.py ... --objective causal --kinds question --out asking
    python questions.py ... --asking asking/card.safetensors --answering run/card.safetensors --out written

Each process of `torchrun` writes a `written-RANK.jsonl.gz`; joined as `reader/written.jsonl.gz` in the folder
of the data, they are drawn from by training. Source: round-trip consistency, arXiv:1906.05416.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from decoder import Decoder, read_gguf
from examples import Example, Piece, ask, ask_back, span
from judging import Reading, left_to_right, token_f1, write
from open_data import OpenData, is_held_out, sentences
from packing import TextEncoder
from safetensors.torch import load_file
from torch import Tensor

AGREES = 0.8
"""Least F1 of what the second card answers with the answer that was asked about."""

TEMPERATURE, TOP_P = 0.8, 0.9
_MOST_TOKENS = 32


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with reader/ and train/")
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct as GGUF")
    parser.add_argument("--tokenizer", type=Path, required=True, help="its tokenizer.json")
    parser.add_argument("--asking", type=Path, required=True, help="card trained on the kind `question`")
    parser.add_argument("--answering", type=Path, required=True, help="card that answers by diffusion")
    parser.add_argument("--rank", type=int, default=128, help="of both cards")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is written")
    parser.add_argument("--seconds", type=float, required=True, help="time to write for")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def candidates(data: OpenData, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Passages without those kept for judging, each with an answer that stands in it once."""
    texts = [*data.contexts, *data.prose]
    while True:
        whole = rng.choice(texts)
        parts = sentences(whole)
        if len(parts) < 3 or is_held_out(whole):
            continue
        begin = rng.randrange(max(1, len(parts) - 3))
        passage = " ".join(parts[begin : begin + rng.randint(3, 9)])
        if not 200 <= len(passage) <= 1500:
            continue
        for _ in range(3):
            answer = span(rng, rng.choice(parts[begin : begin + 9]))
            if answer and passage.count(answer) == 1:
                yield passage, answer


def sample(logs: Tensor) -> Tensor:
    """A token by its probability among the likeliest that have `TOP_P` together (arXiv:1904.09751)."""
    chances, order = (logs / TEMPERATURE).softmax(-1).sort(-1, descending=True)
    chances[chances.cumsum(-1) - chances >= TOP_P] = 0.0
    return order.gather(1, torch.multinomial(chances, 1))[:, 0]


class Questions:
    """Writes questions and checks them."""

    def __init__(self, a: argparse.Namespace) -> None:
        base = read_gguf(a.base)
        self._encoder, self._device = TextEncoder(a.tokenizer), a.device
        self._asking, self._answering = (Decoder(base, a.rank).to(a.device) for _ in range(2))
        self._asking.begin_from(load_file(a.asking))
        self._answering.begin_from(load_file(a.answering))

    @torch.no_grad()
    def write(self, pairs: list[tuple[str, str]]) -> list[dict]:
        """Rows as of `extractive.jsonl.gz` for those (passage, answer) that a question was found for."""
        prompts = [self._encoder.prompt(ask_back(*pair)) for pair in pairs]
        ids, _, _ = left_to_right(
            Reading(self._asking, prompts, self._device, is_causal=True), _MOST_TOKENS, sample
        )
        questions = [self._encoder.decode(row).strip() for row in ids.tolist()]
        asked = [
            Example("grounded", ask(passage, question), (Piece(answer),))
            for (passage, answer), question in zip(pairs, questions, strict=True)
        ]
        answers = write(self._answering, self._encoder, asked, 16, self._device, "diffusion")
        return [
            {
                "question": question,
                "context": passage,
                "answers": [{"text": answer, "start": passage.index(answer)}],
                "source": "written",
                "lang": "en",
            }
            for (passage, answer), question, said in zip(pairs, questions, answers, strict=True)
            if question.endswith("?") and token_f1(said.texts[0], answer) >= AGREES
        ]


def main() -> None:
    """Write until the time is over."""
    a = arguments()
    rank = int(os.environ.get("RANK", "0"))
    if a.device == "cuda":
        a.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    torch.manual_seed(a.seed * 1000 + rank)
    found = candidates(OpenData(a.data, held_out=False), random.Random(f"{a.seed}/{rank}"))
    questions = Questions(a)
    a.out.mkdir(parents=True, exist_ok=True)
    kept, tried, begun = 0, 0, time.monotonic()
    with gzip.open(a.out / f"written-{rank}.jsonl.gz", "wt", encoding="utf-8") as out:
        while time.monotonic() - begun < a.seconds:
            # Of like lengths, so that little is padded.
            pairs = sorted((next(found) for _ in range(8 * a.batch)), key=lambda pair: len(pair[0]))
            for start in range(0, len(pairs), a.batch):
                rows = questions.write(pairs[start : start + a.batch])
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                kept, tried = kept + len(rows), tried + len(pairs[start : start + a.batch])
                if time.monotonic() - begun >= a.seconds:
                    break
            print(json.dumps({"rank": rank, "kept": kept, "tried": tried}), flush=True)


if __name__ == "__main__":
    main()
