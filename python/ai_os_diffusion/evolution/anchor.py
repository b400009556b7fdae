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

__all__ = ["TEXTS_A_STEP", "AnchorTexts"]

TEXTS_A_STEP = 2
"""Texts whose distributions are compared in a step."""

_TEXTS = 96
_ASKED, _WRITTEN = 32, 72
"""Most tokens of a question that the model asks itself, and of a whole text."""

_BEGINNING = 12
"""Tokens of an answer with which a text without turns begins."""

_TOP_P = 0.95
_THREADS = 8


class AnchorTexts:
    """Texts that the base writes by itself: questions it asks and answers, and prose.

    A chat model that is given the beginning of a user's turn writes one (Magpie, arXiv:2406.08464), so the
    texts are what it has learned, in its own proportions, and no data is needed.

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
    ) -> AnchorTexts:
        """Those of a base, which are written once.

        Args:
            model: folder of the base.
            folder: where they are kept.
            seed: draws those of a step.
            written: is told how many of how many the base has written.
        """
        base = Base.of_folder(model)
        path = folder / f"{base.weights_sha256[:16]}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # An engine of its own: whatever cards are in use elsewhere, these are the base's texts.
            with ArrowEngine(model) as engine:
                texts = _write(engine, written)
            with replacing(path) as draft, draft.open("wb") as file:
                np.savez(
                    file,
                    ids=np.array([i for text in texts for i in text.ids], np.int32),
                    lengths=np.array([len(text.ids) for text in texts], np.int64),
                    learned=np.array([text.learned for text in texts], np.int64),
                )
        return cls(_read(path), seed)

    def without_turns(self) -> AnchorTexts:
        """Those that answer nothing: what a card that changes every answer is to leave as it is."""
        alone = [text for text in self._texts if text.learned == 1]
        return AnchorTexts(alone or self._texts, self._seed)

    def __getitem__(self, step: int) -> dict[int, Text]:
        """The texts of a step, by number."""
        rng = random.Random(f"{self._seed}/anchor/{step}")  # noqa: S311  # no secret
        numbers = rng.sample(range(len(self._texts)), min(TEXTS_A_STEP, len(self._texts)))
        return {number: self._texts[number] for number in numbers}


def _read(path: Path) -> list[Text]:
    with np.load(path, allow_pickle=False) as found:
        parts = np.split(found["ids"], np.cumsum(found["lengths"])[:-1])
        return [
            Text(tuple(ids.tolist()), learned)
            for ids, learned in zip(parts, found["learned"].tolist(), strict=True)
        ]


def _write(engine: ArrowEngine, written: Callable[[int, int], object]) -> list[Text]:
    """Texts of a base, the same whenever they are written on a machine."""
    head = _turn_head(engine)

    def drawn(start: list[int], most: int, seed: int) -> Generation:
        return engine.generate(start, max_tokens=most, temperature=1.0, top_p=_TOP_P, seed=seed)

    def write(number: int) -> Text:
        question = str(drawn(head, _ASKED, number)).strip() or "?"
        turn = _turn(engine, question)
        answer = drawn(turn, max(8, _WRITTEN - (len(turn) - len(head))), number).tokens
        if number % 2:
            return Text((*turn, *answer), min(len(head), len(turn) - 1) or 1)
        # The same words without turns, going on.
        begun = answer[:_BEGINNING] or turn[-1:]
        return Text((*begun, *drawn(begun, _WRITTEN - len(begun), number).tokens), 1)

    # Texts of several threads share their passes.
    with ThreadPoolExecutor(_THREADS) as pool:
        texts = []
        for text in pool.map(write, range(_TEXTS)):
            texts.append(text)
            written(len(texts), _TEXTS)
    return [text for text in texts if len(text.ids) > text.learned + 1]


def _turn_head(engine: ArrowEngine) -> list[int]:
    """Ids up to where a user's turn begins; of a model without turns, the token that ends its texts."""
    tokenizer = engine.tokenizer
    if tokenizer.chat_template is None:
        return [min(engine.metadata.eos_token_ids or (tokenizer.eos_id or 0,))]
    one, other = _turn(engine, "A"), _turn(engine, "Z")
    return one[: next(at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)]


def _turn(engine: ArrowEngine, text: str) -> list[int]:
    """Ids of a user's turn and of the beginning of the answer."""
    ids: list[int] = turn_ids(engine.tokenizer, text, None).tolist()
    return ids
