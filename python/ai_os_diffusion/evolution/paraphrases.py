"""Other wordings of questions, which the base writes itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.evolution.skill_router import Embed, everyday_questions
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids
from ai_os_diffusion.models.cards import Base
from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.appended_log import AppendedLog

__all__ = ["TRIES", "Paraphraser", "nearest_to_their_own", "paraphrases_of"]

TRIES = 16
"""Texts that are written for each question; most say something else."""

_TEMPERATURE, _TOP_P = 0.8, 0.9
_LONGER = 16
"""Tokens that a text may have more than its question."""

_SHOWN, _ALIKE = 5, 4
"""Examples that come before a question, and those of them that begin with its first word."""

_LESS_LIKELY = 0.5
"""Nats by which the answer, or its first token, may be less likely than to the question itself: a "when" that
became a "how" loses several."""

_LOST, _ADDED = 1.0, 0.8
"""Nats of each token by which the question may be harder to get back than from itself, and that the text
itself may have: where a name is gone, or another is there, or more is asked, they are more."""

_THREADS = 8

Nats = NDArray[np.float64]


class _Example(NamedTuple):
    question: str
    paraphrase: str
    answer: str


class Paraphraser:
    """Has a model ask questions in other words, and checks with the model itself what it wrote.

    A small model mostly asks something else. What it writes is kept if, from examples,

    - it would give the right answer as likely as to the question (so what is asked for is the same), and
    - it would write the question from the text nearly as well as from the question itself, and the text from
      the question (so little is gone from it, has become something else, or was added).

    Args:
        engine: a decoder.
    """

    def __init__(self, engine: ArrowEngine) -> None:
        self._engine, self._window = engine, engine.metadata.max_position_embeddings
        lines = files(__package__).joinpath("paraphrased.tsv").read_text("utf-8").split("\n")[:-1]
        self._examples = [_Example(*line.split("\t")) for line in lines]

    def write(self, pair: QAPair) -> list[str]:
        """Other wordings of a question, the nearest first; always the same on a machine."""
        if not self._has_room_for(pair):
            return []
        texts = list(self._distinct(pair))
        less = self.less_likely(pair, texts)
        texts = [text for text, nats in zip(texts, less, strict=True) if nats <= _LESS_LIKELY]
        found = sorted(zip(self.lost(pair, texts), texts, strict=True))
        return [text for nats, text in found if nats <= _LOST]

    def less_likely(self, pair: QAPair, texts: Sequence[str]) -> list[float]:
        """Nats by which the answer, or its first token, is less likely to each text than to the question."""
        own, *others = (
            self._nats(self._answering(pair, text), f" {pair.answer}") for text in (pair.question, *texts)
        )
        return [float(max(other.sum() - own.sum(), other[0] - own[0])) for other in others]

    def lost(self, pair: QAPair, texts: Sequence[str]) -> list[float]:
        """Nats a token by which the question is harder to get back from each text than from itself."""
        own, *others = (
            float(self._nats(self._going_back(text), f" {pair.question}").mean())
            for text in (pair.question, *texts)
        )
        return [other - own for other in others]

    def _distinct(self, pair: QAPair) -> Iterator[str]:
        """Texts of other words than the question, which do not tell the answer."""
        seen, answer = {_words(pair.question)}, pair.answer.casefold()
        is_told = answer in pair.question.casefold()
        prompt, room = self._ids(self._rewording(pair.question)), self._room(pair.question)
        for number in range(TRIES):
            said = self._engine.generate(
                prompt,
                max_tokens=room,
                temperature=_TEMPERATURE,
                top_p=_TOP_P,
                stop=["?", "\n"],
                seed=number,
            )
            text, words = f"{str(said).strip()}?", _words(said)
            if not words or words in seen or (answer in text.casefold() and not is_told):
                continue
            seen.add(words)
            if said.finish_reason == "stop" and -np.mean(said.logprobs) <= _ADDED:
                yield text

    def _rewording(self, question: str) -> str:
        """What comes before a paraphrase: examples of its kind, those that begin as it does at the end."""
        first = question.split()[0].casefold()
        alike = [one for one in self._examples if one.question.split()[0].casefold() == first][:_ALIKE]
        others = [one for one in self._examples if one not in alike]
        shown = [*_spread(others, _SHOWN - len(alike)), *alike]
        return _reworded([(one.question, one.paraphrase) for one in shown], question)

    def _going_back(self, text: str) -> str:
        """What comes before the question that a text paraphrases."""
        return _reworded([(one.paraphrase, one.question) for one in _spread(self._examples, _SHOWN)], text)

    def _answering(self, pair: QAPair, question: str) -> str:
        """What comes before an answer: answers of many kinds, and the pair's passage if there is one."""
        shown = [f"Question: {one.question}\nAnswer: {one.answer}\n\n" for one in self._examples[::2]]
        read = f"{pair.passage}\n\n" if pair.passage else ""
        return f"{''.join(shown)}{read}Question: {question}\nAnswer:"

    def _nats(self, prompt: str, text: str) -> Nats:
        """Negative log-likelihood of each token of a text behind a prompt; the examples are read once."""
        read, ids = self._ids(prompt), self._ids(text)
        session = self._engine.core.session(len(read) + len(ids))
        session.prefill(read)
        found = np.empty(len(ids))
        for at, id in enumerate(ids):
            logits = session.logits().astype(np.float64)
            most = logits.max()
            found[at] = np.log(np.exp(logits - most).sum()) + most - logits[id]
            session.push(int(id))
        return found

    def _has_room_for(self, pair: QAPair) -> bool:
        """Whether all that is read of a pair fits into the model's window, with a paraphrase in its place."""
        prompts = self._rewording(pair.question), self._going_back(pair.question)
        longest = max(len(self._ids(prompt)) for prompt in (*prompts, self._answering(pair, pair.question)))
        ends = max(len(self._ids(f" {pair.answer}")), self._room(pair.question))
        return longest + _LONGER + ends <= self._window

    def _room(self, question: str) -> int:
        """Most tokens of a paraphrase."""
        return len(self._ids(question)) + _LONGER

    def _ids(self, text: str) -> NDArray[np.int32]:
        return text_ids(self._engine.tokenizer, text)


def paraphrases_of(
    model: Path,
    folder: Path,
    pairs: Sequence[QAPair],
    written: Callable[[int, int], object] = lambda _done, _of: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> dict[QAPair, list[str]]:
    """What a base wrote for each pair, the nearest first; it is written once for each.

    Args:
        model: folder of the base.
        folder: where they are kept.
        pairs: questions with their answers.
        written: is told for how many of how many pairs the base has written.
        is_stopped: is asked after each whether to break off; the same call goes on.

    Raises:
        TrainingError: it was broken off.
    """
    log = AppendedLog(folder / f"{Base.of_folder(model).weights_sha256[:16]}.jsonl", TrainingError)
    known: dict[_Key, list[str]] = {}
    for key, texts in log.read(_parsed):
        known.setdefault(key, texts)
    waiting = [pair for pair in pairs if _key(pair) not in known]
    if waiting:
        # An engine of its own, as for the anchor; texts of several threads share their passes.
        with ArrowEngine(model) as engine, ThreadPoolExecutor(_THREADS) as pool:
            begun = [pool.submit(Paraphraser(engine).write, pair) for pair in waiting]
            try:
                for done, (pair, future) in enumerate(zip(waiting, begun, strict=True), 1):
                    known[_key(pair)] = texts = future.result()
                    log.append({**dict(zip(_KEY, _key(pair), strict=True)), "texts": texts})
                    written(done, len(waiting))
                    if is_stopped():
                        raise TrainingError("writing paraphrases was broken off; the same call goes on")
            finally:
                pool.shutdown(cancel_futures=True)
    return {pair: known[_key(pair)] for pair in pairs}


def nearest_to_their_own(wordings: Mapping[QAPair, Sequence[str]], embed: Embed) -> dict[QAPair, list[str]]:
    """Those that are nearer to their own question than that is to any other.

    Others are the questions of the other pairs, and those on everyday matters.

    Args:
        wordings: of each pair.
        embed: unit vectors of questions, float32[n, dim].
    """
    questions = list(dict.fromkeys(pair.question for pair in wordings))
    place = {question: number for number, question in enumerate(questions)}
    texts = [(pair, text) for pair, found in wordings.items() for text in found]
    kept: dict[QAPair, list[str]] = {pair: [] for pair in wordings}
    if not texts:
        return kept
    vectors = embed([*questions, *(text for text in everyday_questions() if text not in place)])
    for (pair, text), near in zip(texts, embed([text for _, text in texts]) @ vectors.T, strict=True):
        own = place[pair.question]
        others = np.concatenate([near, vectors @ vectors[own]])
        others[[own, own + len(near)]] = -1
        if near[own] > others.max():
            kept[pair].append(text)
    return kept


_Key = tuple[str, str, str]
_KEY = ("question", "answer", "passage")


def _key(pair: QAPair) -> _Key:
    return pair.question, pair.answer, pair.passage


def _parsed(row: Mapping[str, object]) -> tuple[_Key, list[str]]:
    question, answer, passage, texts = (row[name] for name in (*_KEY, "texts"))
    if not isinstance(texts, list):
        raise TypeError("no texts")
    return (str(question), str(answer), str(passage)), [str(text) for text in texts]


def _reworded(shown: Sequence[tuple[str, str]], question: str) -> str:
    lines = "Question: {}\nThe same question in other words:"
    return "".join(f"{lines.format(one)} {other}\n\n" for one, other in shown) + lines.format(question)


def _spread(examples: Sequence[_Example], count: int) -> Sequence[_Example]:
    """So many of all, evenly."""
    return [examples[len(examples) * at // count] for at in range(count)]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
