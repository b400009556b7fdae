"""What the base says elsewhere, which a skill is to leave as it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ai_os_diffusion.evolution.packed import Text
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import turn_ids
from ai_os_diffusion.inference.generation.generation_stream import Generation
from ai_os_diffusion.models.cards import Base
from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["AnchorTexts"]

_TEXTS_A_STEP = 8
"""Texts whose distributions are compared in a step."""

_TEXTS = 512
"""That are written. Of few, each comes back often, and is kept better than what it stands for."""

_ASKED, _WRITTEN = 32, 72
"""Most tokens of a question that the model asks itself, and of a whole text."""

_TOP_P = 0.95
_THREADS = 8


class AnchorTexts:
    """Texts that the base writes by itself: what it has learned, in its own proportions, without any data.

    Prose is what it writes behind the token that separates documents. Turns are questions that it asks itself
    and answers: a chat model that is given the beginning of a user's turn writes one (Magpie, arXiv:
    2406.08464). A skill is learned beside prose: with turns beside it, it is also taught to answer every
    question as the base does but those that it was given to the letter, and knows fewer in other words.

    Args:
        texts: the texts.
        seed: draws those of a step.
    """

    def __init__(self, texts: list[Text], seed: int) -> None:
        self._texts, self._seed = texts, seed

    @classmethod
    def of(
        cls,
        model: Path,
        folder: Path,
        seed: int,
        written: Callable[[int, int], object] = lambda _done, _texts: None,
        *,
        is_asked: bool = False,
    ) -> AnchorTexts:
        """Those of a base, which are written once.

        Args:
            model: folder of the base.
            folder: where they are kept.
            seed: draws those of a step.
            written: is told how many of how many the base has written.
            is_asked: turns instead of prose.
        """
        base = Base.of_folder(model)
        path = folder / f"{base.weights_sha256[:16]}.{'turns' if is_asked else 'prose'}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # An engine of its own: whatever cards are in use elsewhere, these are the base's texts.
            with ArrowEngine(model, prefix_cache_bytes=0) as engine:
                texts = _written((_turns if is_asked else _prose)(engine), written)
            with replacing(path) as draft, draft.open("wb") as file:
                np.savez(
                    file,
                    ids=np.array([i for text in texts for i in text.ids], np.int32),
                    lengths=np.array([len(text.ids) for text in texts], np.int64),
                    learned=np.array([text.learned for text in texts], np.int64),
                )
        return cls(_read(path), seed)

    def __getitem__(self, step: int) -> dict[int, Text]:
        """The texts of a step, by number."""
        rng = random.Random(f"{self._seed}/anchor/{step}")  # noqa: S311  # no secret
        numbers = rng.sample(range(len(self._texts)), min(_TEXTS_A_STEP, len(self._texts)))
        return {number: self._texts[number] for number in numbers}


def _read(path: Path) -> list[Text]:
    with np.load(path, allow_pickle=False) as found:
        parts = np.split(found["ids"], np.cumsum(found["lengths"])[:-1])
        return [
            Text(tuple(ids.tolist()), learned)
            for ids, learned in zip(parts, found["learned"].tolist(), strict=True)
        ]


def _written(write: Callable[[int], Text], written: Callable[[int, int], object]) -> list[Text]:
    """Texts of a base, the same whenever they are written on a machine."""
    # Texts of several threads share their passes.
    with ThreadPoolExecutor(_THREADS) as pool:
        texts = []
        for text in pool.map(write, range(_TEXTS)):
            texts.append(text)
            written(len(texts), _TEXTS)
    return [text for text in texts if len(text.ids) > text.learned + 1]


def _prose(engine: ArrowEngine) -> Callable[[int], Text]:
    start = [_separator(engine)]

    def write(number: int) -> Text:
        return Text((*start, *_drawn(engine, start, _WRITTEN - len(start), number).tokens), len(start))

    return write


def _turns(engine: ArrowEngine) -> Callable[[int], Text]:
    head = _turn_head(engine)

    def write(number: int) -> Text:
        question = str(_drawn(engine, head, _ASKED, number)).strip() or "?"
        turn = _turn(engine, question)
        answer = _drawn(engine, turn, max(8, _WRITTEN - (len(turn) - len(head))), number).tokens
        return Text((*turn, *answer), min(len(head), len(turn) - 1) or 1)

    return write


def _drawn(engine: ArrowEngine, start: list[int], most: int, seed: int) -> Generation:
    """What the base goes on with."""
    return engine.generate(start, max_tokens=most, temperature=1.0, top_p=_TOP_P, seed=seed)


def _separator(engine: ArrowEngine) -> int:
    """The token behind a document: of those that end a text the first, as vocabularies are made."""
    return min(engine.metadata.eos_token_ids or (engine.tokenizer.eos_id or 0,))


def _turn_head(engine: ArrowEngine) -> list[int]:
    """Ids up to where a user's turn begins; of a model without turns, the token that ends its texts."""
    tokenizer = engine.tokenizer
    if tokenizer.chat_template is None:
        return [_separator(engine)]
    one, other = _turn(engine, "A"), _turn(engine, "Z")
    return one[: next(at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)]


def _turn(engine: ArrowEngine, text: str) -> list[int]:
    """Ids of a user's turn and of the beginning of the answer."""
    ids: list[int] = turn_ids(engine.tokenizer, text, None).tolist()
    return ids
