"""Whether passages answer questions, by a language model: P(yes), and how likely questions are after them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomllib
import torch
from qwen2 import Qwen2
from torch import Tensor
from vocabulary import Vocabulary

__all__ = ["Judge", "Judged"]

_LONGEST_PASSAGE = 600
_LONGEST_QUESTION = 120
_TOKENS = 1 << 15
_LOGITS = 1 << 11
"""Tokens whose logits are in memory together."""


class Judged(NamedTuple):
    """What is thought of a question and a passage.

    Attributes:
        yes: P(yes) against P(no).
        likelihood: mean log-probability of the question's tokens after the passage: ranks the passages of a
            question (Sachan et al. 2022, arXiv:2204.07496); of different questions it cannot be compared.
    """

    yes: float
    likelihood: float


class _Laid(NamedTuple):
    """A passage and its questions as one row: each question sees the passage and itself alone.

    Attributes:
        tokens: of the passage, then of each question.
        parts: 0 for those of the passage, from 1 for those of a question.
        asked: where the tokens of each question begin and end, and where its reply would begin.
    """

    tokens: list[int]
    parts: list[int]
    asked: list[tuple[int, int, int]]


class Judge:
    """The model as a judge.

    Args:
        model: which judges.
        vocabulary: its tokens.
        path: `asking.toml`.

    Attributes:
        beginning: the tokens that all that is judged begins with.
    """

    def __init__(self, model: Qwen2, vocabulary: Vocabulary, path: Path) -> None:
        told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        self._told: dict[str, str] = told["judge"]
        self._model, self._vocabulary = model, vocabulary
        self._replies = [vocabulary.tokens(told["judge"][name])[0] for name in ("yes", "no")]
        self._tail = [
            *vocabulary.tokens(told["judge"]["asked"]),
            vocabulary.end,
            *vocabulary.tokens("\n"),
            *vocabulary.opened("assistant"),
        ]
        tokens = vocabulary.turn("system", told["judge"]["system"])
        for one in told["judge"]["examples"]:
            laid = self._laid(told["documents"][one["document"]]["text"].strip(), [one["question"]])
            tokens += [
                *laid.tokens,
                *vocabulary.tokens(one["reply"]),
                vocabulary.end,
                *vocabulary.tokens("\n"),
            ]
        self.beginning = tokens
        with torch.inference_mode():
            self._prefix = model.prefix(tokens)

    @torch.inference_mode()
    def judge(self, groups: Sequence[tuple[str, Sequence[str]]]) -> list[list[Judged]]:
        """Of passages with questions each; groups of about equal length are best given together.

        Args:
            groups: a passage, and what is asked of it.

        Returns: for each group, for each question.
        """
        laid = [self._laid(text, questions) for text, questions in groups]
        order = sorted(range(len(laid)), key=lambda at: len(laid[at].tokens))
        out: list[list[Judged]] = [[] for _ in laid]
        while order:
            count = max(1, _TOKENS // len(laid[order[-1]].tokens))
            some, order = order[-count:], order[:-count]
            for at, judged in zip(some, self._read([laid[at] for at in some]), strict=True):
                out[at] = judged
        return out

    def _laid(self, text: str, questions: Sequence[str]) -> _Laid:
        vocabulary, told = self._vocabulary, self._told
        passage = vocabulary.tokens(told["document"].format(text=text))[:_LONGEST_PASSAGE]
        tokens = [vocabulary.begin, *vocabulary.tokens("user\n"), *passage]
        parts, asked = [0] * len(tokens), []
        for number, question in enumerate(questions, 1):
            said = vocabulary.tokens(told["question"].format(question=question))[:_LONGEST_QUESTION]
            begin = len(tokens)
            tokens += said + self._tail
            parts += [number] * (len(tokens) - begin)
            asked.append((begin, begin + len(said), len(tokens) - 1))
        return _Laid(tokens, parts, asked)

    def _read(self, rows: Sequence[_Laid]) -> list[list[Judged]]:
        device, longest = self._model.device, max(len(row.tokens) for row in rows)
        ids = torch.full((len(rows), longest), self._vocabulary.end)
        parts = torch.full((len(rows), longest), -1)
        for at, row in enumerate(rows):
            ids[at, : len(row.tokens)] = torch.tensor(row.tokens)
            parts[at, : len(row.parts)] = torch.tensor(row.parts)
        ids, parts = ids.to(device), parts.to(device)
        order = torch.arange(longest, device=device)
        seen = (parts[:, None] == 0) | (parts[:, :, None] == parts[:, None])
        mask = seen & (order[:, None] >= order)
        # Each question stands as if it followed the passage at once.
        passage = (parts == 0).sum(1, keepdim=True)
        first = (parts[:, :, None] == parts[:, None]).int().argmax(-1)
        places = torch.where(parts > 0, passage + order - first, order) + self._prefix.length
        hidden = self._model.read(ids, places, mask, self._prefix, None)
        # A token of a question is foretold by the one before it: the first, by the last of the passage.
        spots = [
            (at, spot - 1 if spot > begin else len_passage - 1, spot)
            for at, row in enumerate(rows)
            for len_passage in [row.parts.count(0)]
            for begin, end, _ in row.asked
            for spot in range(begin, end)
        ]
        said = self._said(hidden, ids, torch.tensor(spots, device=device)).tolist()
        ends = torch.tensor(
            [(at, reply) for at, row in enumerate(rows) for *_, reply in row.asked], device=device
        )
        replies = self._model.logits(hidden[ends[:, 0], ends[:, 1]])[:, self._replies]
        yes = replies.softmax(-1)[:, 0].tolist()
        out, at_token, at_question = [], 0, 0
        for row in rows:
            judged = []
            for begin, end, _ in row.asked:
                mean = sum(said[at_token : at_token + end - begin]) / (end - begin)
                judged.append(Judged(round(yes[at_question], 4), round(mean, 4)))
                at_token, at_question = at_token + end - begin, at_question + 1
            out.append(judged)
        return out

    def _said(self, hidden: Tensor, ids: Tensor, spots: Tensor) -> Tensor:
        """float[spots] log-probabilities of tokens; spots are row, the token before, the token."""
        found = [
            self._model.logits(hidden[some[:, 0], some[:, 1]])
            .log_softmax(-1)
            .gather(1, ids[some[:, 0], some[:, 2]][:, None])[:, 0]
            for some in spots.split(_LOGITS)
        ]
        return torch.cat(found)
