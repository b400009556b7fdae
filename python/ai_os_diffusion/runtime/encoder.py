"""What makes a runtime's vectors: a model on this machine or a service, and a cache before either."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ai_os_diffusion.contracts import TokenCounter
from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider
from ai_os_diffusion.utils.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.utils.cached_embedding import CachedEmbeddingProvider

__all__ = ["Encoder", "is_address"]

# A token of the vocabularies in use is seldom shorter: what is counted so fits their windows.
_TOKEN_BYTES = 3
# Tokens an encoder puts around a text, with a margin.
_SPECIAL_TOKENS = 8
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Encoder:
    """Vectors of texts, and what a runtime has to know of the model that makes them.

    Attributes:
        provider: makes the vectors.
        name: of the model where it comes from, the same however its weights are stored.
        identity: as a store remembers it: vectors of one identity compare.
        fingerprint: tells these vectors from all others, to the last bit.
        count: counts tokens as the model does; where only a service knows, about so.
        max_seq_length: tokens at which texts are cut; None where nobody says.
        engine: the model itself, where it is on this machine.
    """

    provider: EmbeddingProvider
    name: str
    identity: str
    fingerprint: str = field(repr=False)
    count: TokenCounter
    max_seq_length: int | None = None
    engine: ArrowEngine | None = None

    @classmethod
    def of_engine(cls, engine: ArrowEngine) -> Encoder:
        """A model on this machine."""
        info = engine.model_info
        source = info["source"]
        name = str(source.get("name") or info["name"])
        digest = source.get("weights_sha256")
        identity = f"{name}@sha256:{digest[:16]}" if digest else name
        fingerprint = f"{identity} {info['quantization']} {info['device']}"
        count, window = engine.tokenizer.count, engine.max_seq_length
        return cls(engine, name, identity, fingerprint, count, window, engine)

    @classmethod
    def of_service(cls, address: str) -> Encoder:
        """A service that speaks OpenAI's `/embeddings`; no connection is opened yet.

        Args:
            address: up to and without `/embeddings`, then `#` and the model's name, as in
                `http://127.0.0.1:8000/v1#bge-m3`.

        Raises:
            ConfigurationError: it names no model.
        """
        from ai_os_diffusion.utils.http_embedding import HttpEmbeddingProvider

        base_url, _, model = address.partition("#")
        if not model:
            raise ConfigurationError(
                f"model.encoder: expected the address of a service and its model, as in {address}#MODEL, "
                f"got {address!r}"
            )
        provider = HttpEmbeddingProvider(base_url, model)
        return cls(provider, model, model, provider.fingerprint, _estimated_tokens)

    def cached(self, path: Path) -> tuple[Encoder, CachedEmbeddingProvider]:
        """This encoder behind a cache in a file, and the cache, which is to be closed.

        Raises:
            InferenceError: the file cannot be used.
        """
        from ai_os_diffusion.utils.cached_embedding import CachedEmbeddingProvider

        path.parent.mkdir(parents=True, exist_ok=True)
        cache = CachedEmbeddingProvider(self.provider, path, fingerprint=self.fingerprint)
        return replace(self, provider=cache), cache

    def encode_query(self, texts: str | Sequence[str]) -> NDArray[Any]:
        """Embed questions: float32[dim] for a string, float32[n, dim] for a sequence."""
        return self.provider.encode_query(texts)

    def encode_document(self, texts: str | Sequence[str]) -> NDArray[Any]:
        """Embed passages, as `encode_query` embeds questions."""
        return self.provider.encode_document(texts)

    @property
    def weights_sha256(self) -> str | None:
        """Digest of the weights that the model was converted from; of a service nobody knows."""
        return None if self.engine is None else self.engine.metadata.source.get("weights_sha256")

    def broken_share(self, text: str) -> float:
        """How much of a text the model reads in fragments of words, 0 to 1. Of a service nobody knows: 0."""
        return 0.0 if self.engine is None else self.engine.tokenizer.broken_share(text)

    def is_truncated(self, texts: Sequence[str], kind: Literal["query", "document"]) -> NDArray[Any]:
        """Which texts are longer than the model's window: bool[n]. Of a service nobody knows, so none is."""
        import numpy as np

        return np.zeros(len(texts), bool) if self.engine is None else self.engine.is_truncated(texts, kind)

    @property
    def room(self) -> int | None:
        """Tokens of a text that is surely not cut; None where nobody says."""
        return None if self.max_seq_length is None else self.max_seq_length - _SPECIAL_TOKENS

    def end_of(self, question: str) -> str:
        """As much of the end of a question as is surely not cut."""
        if self.engine is None or self.room is None:
            return question
        prompt = self.engine.metadata.prompts.get("query", "")
        room = max(1, self.room - self.count([prompt])[0])
        places = self._places(question)[1]
        return question if len(places) <= room else question[int(places[-room][0]) :]

    def unknown_words(self, text: str) -> list[str]:
        """Words of which the vocabulary knows nothing but single letters, or not even these.

        The model was hardly trained on their language. Of a service nobody knows, so there are none.
        """
        if self.engine is None:
            return []
        ids, places = self._places(text)
        special = set(self.engine.tokenizer.special_ids)
        known = [
            (start, end)
            for token, (start, end) in zip(ids.tolist(), places.tolist(), strict=True)
            if end - start > 1 and token not in special
        ]
        return [
            found.group()
            for found in _WORD.finditer(text)
            if not any(start < found.end() and end > found.start() for start, end in known)
        ]

    def _places(self, text: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Ids of a text, and where each stands in it."""
        assert self.engine is not None
        read = self.engine.tokenizer.encode(
            text, add_special_tokens=False, padding=False, return_offsets=True, split_special_tokens=True
        )
        assert read.offsets is not None
        return read.ids[0], read.offsets[0]


def is_address(name: str) -> bool:
    """Whether an encoder's name is the address of a service."""
    return name.startswith(("http://", "https://"))


def _estimated_tokens(texts: Sequence[str]) -> list[int]:
    return [-(-len(text.encode("utf-8", "surrogatepass")) // _TOKEN_BYTES) for text in texts]
