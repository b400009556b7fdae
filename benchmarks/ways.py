"""Ways of answering, each part switched off: what `answers.py --ways` compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ai_os_diffusion.answers.answer import Answer
from ai_os_diffusion.answers.decision import decide
from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.answers.nearest import nearest_answer
from ai_os_diffusion.answers.recall import RecallHit, RecallResult, distinct_hits
from ai_os_diffusion.runtime import Runtime

READ = 10
"""Passages that are found and read for a question, as by `ask`."""


@dataclass(frozen=True)
class Way:
    """A way of answering.

    Attributes:
        vectors: search by vectors.
        words: search by words.
        reads: let the reader point; else the nearest part of what was found is quoted.
        judges: take the calibrated probability; else what is above "no answer" is said.
    """

    vectors: bool = True
    words: bool = True
    reads: bool = True
    judges: bool = True


WAYS = {
    "vectors, nearest part quoted": Way(words=False, reads=False),
    "both, nearest part quoted": Way(reads=False),
    "vectors, read": Way(words=False),
    "words, read": Way(vectors=False),
    "both, read, by margin": Way(judges=False),
    "both, read": Way(),
}
"""The first is how `ask` answered before there was a reader, the last how it answers."""


def found_by(runtime: Runtime, question: str, way: Way) -> RecallResult:
    """What a way of searching finds, the nearest first."""
    found = runtime.to_read(question, top_k=READ)
    if way.vectors and way.words:
        return found
    store, vector = runtime.memories, runtime.encoder.encode_query(question)
    if way.vectors:
        hits = distinct_hits(lambda count: store.query(vector, count), READ)
    else:
        # Passages found by words keep their cosine, a feature of the probability.
        near = {memory["memory_id"]: score for memory, score in store.query(vector, store.count())}
        hits = distinct_hits(
            lambda count: [
                (memory, near[memory["memory_id"]]) for memory, _ in store.search_text(question, count)
            ],
            READ,
        )
    told: Sequence[RecallHit] = [RecallHit.from_hit(hit) for hit in hits]
    return replace(found, hits=tuple(told), nearest=max((hit.similarity for hit in told), default=None))


def answered_by(runtime: Runtime, found: RecallResult, way: Way) -> Answer:
    """The answer that a way gives from what it found."""
    if not way.reads:
        is_far = found.threshold is not None and (found.nearest or 0.0) < found.threshold
        vector = runtime.encoder.encode_query(found.question)
        return nearest_answer(replace(found, abstained=is_far), vector, runtime.encoder.encode_document)
    reader = runtime.reader
    if reader is None:
        raise SystemExit("no reader card is here; these ways of answering need one")
    competing = reader.candidates(found, reader.read(found.question, found.hits))
    return decide(found, competing, reader.judge if way.judges else Judge())
