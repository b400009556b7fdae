"""The composition root: settings in, wired engines and store out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.config import Config, load_config
from ai_os_diffusion.contracts import Hit, Message, Metadata
from ai_os_diffusion.utils.errors import ConfigurationError
from ai_os_diffusion.utils.lazy_property import lazy_property

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer
    from ai_os_diffusion.answers.fusion import Fusion
    from ai_os_diffusion.answers.recall import RecallResult
    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.inference.generation.generation_stream import GenerationStream
    from ai_os_diffusion.runtime.before import Before
    from ai_os_diffusion.runtime.conversation import Conversation
    from ai_os_diffusion.runtime.encoder import Encoder
    from ai_os_diffusion.runtime.indexing import AddProgress, AddReport
    from ai_os_diffusion.runtime.reading import RuntimeReader
    from ai_os_diffusion.runtime.skills import Skills
    from ai_os_diffusion.storage import ArrowStorage

__all__ = ["Runtime", "open_runtime"]

_REPETITION_PENALTY = 1.0
# Passages that are read for a question: the right one may be less near than others.
_SEARCHED = 10
# Memories of each search that are put in one order: what is best by one is looked at by both.
_FUSED = 30


def open_runtime(config: Config | None = None) -> Runtime:
    """Wire engines and store by the settings of this process.

    Nothing is opened yet: a model is loaded and the store opened when first needed, so recalling loads no
    decoder and embedding opens no store.

    Args:
        config: by default gathered by `load_config`.
    """
    return Runtime(config or load_config())


class Runtime:
    """Engines and store that belong together; a context manager that closes what it opened."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._opened = ExitStack()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        model = self.config.model
        place = str(self.config.storage.path)
        return f"Runtime({place!r}, encoder={model.encoder!r}, decoder={model.decoder!r})"

    def close(self) -> None:
        """Close the store and the engines."""
        self._opened.close()

    @lazy_property
    def encoder(self) -> Encoder:
        """What embeds: a model on this machine, or a service; behind a cache where one is configured."""
        from ai_os_diffusion.runtime.encoder import Encoder, is_address

        name, cache_file = self.config.model.encoder, self.config.model.encoder_cache
        encoder = Encoder.of_service(name) if is_address(name) else Encoder.of_engine(self._engine(name))
        if cache_file is None:
            return encoder
        encoder, cache = encoder.cached(cache_file)
        self._opened.enter_context(cache)
        return encoder

    @lazy_property
    def reader(self) -> RuntimeReader | None:
        """What reads passages: the encoder with the card that is configured, or found for it; None without.

        Raises:
            CardError: the card does not read, or is of another encoder.
            ModelNotFoundError: the card that is configured is not there.
        """
        from ai_os_diffusion.runtime.reading import RuntimeReader

        engine = self.encoder.engine
        return None if engine is None else RuntimeReader.of(engine, self.config.model.reader)

    @lazy_property
    def decoder(self) -> ArrowEngine:
        """The model that answers: the version of it that is used."""
        from ai_os_diffusion.models.model_versions import ModelVersions

        return self._engine(ModelVersions(self.config.models_dir).current(self.config.model.decoder))

    @lazy_property
    def diffuser(self) -> ArrowEngine:
        """The model that writes by diffusion, from memory where it is asked to."""
        from ai_os_diffusion.diffusion import MemoryConditioner

        engine = self._engine(self.config.model.diffusion)
        engine.conditioner = MemoryConditioner(
            lambda query, most: self.recall(self.encoder.end_of(query), top_k=most).near_hits,
            count=self._count_tokens,
        )
        return engine

    def _count_tokens(self, text: str) -> int:
        return int(self.diffuser.tokenizer.count(text)[0])

    @lazy_property
    def skills(self) -> Skills:
        """What the decoder was taught."""
        from ai_os_diffusion.runtime.skills import Skills

        return Skills(self)

    @lazy_property
    def storage(self) -> ArrowStorage:
        """The store, open for writing; once the encoder is loaded, it is told what makes its vectors."""
        from ai_os_diffusion.storage import ArrowStorage

        settings = self.config.storage
        store = ArrowStorage(
            settings.path,
            durability=settings.durability,  # type: ignore[arg-type]
            lock_timeout_s=settings.lock_timeout_s,
            model=self.encoder.identity if "encoder" in self.__dict__ else None,
        )
        return self._opened.enter_context(store)

    @lazy_property
    def memories(self) -> ArrowStorage:
        """The store, for reading: it sees every commit, and no writer waits for it.

        Raises:
            FileNotFoundError: there is no store yet.
        """
        from ai_os_diffusion.storage import ArrowStorage

        path = self.config.storage.path
        if not self.has_store:
            raise FileNotFoundError(
                errno.ENOENT, "no memory store here; make one with: aios add PATH", str(path)
            )
        return self._opened.enter_context(ArrowStorage(self.config.storage.path, read_only=True))

    @property
    def searched(self) -> ArrowStorage:
        """The store, for reading, whose vectors are the encoder's.

        Raises:
            FileNotFoundError: there is no store yet.
            ConfigurationError: another model made its vectors.
        """
        storage = self.memories
        if storage.count():
            self._check_encoder(storage)
        return storage

    @property
    def has_store(self) -> bool:
        """Whether the store exists."""
        return (self.config.storage.path / "MANIFEST").exists()

    def add(
        self,
        paths: Sequence[str | os.PathLike[str]] = (),
        *,
        texts: Iterable[tuple[str, bytes]] = (),
        takes_all: bool = False,
        prune: bool = False,
        dry_run: bool = False,
        progress: Callable[[AddProgress], None] | None = None,
    ) -> AddReport:
        """Remember documents; only what is new or changed is embedded.

        Args:
            paths: files and folders.
            texts: (name, content) of documents that are not files.
            takes_all: also take files that are hidden, generated or ignored by git.
            prune: forget documents below `paths` whose file is gone.
            dry_run: find out what would be done.
            progress: told how far it is.

        Raises:
            FileNotFoundError: a path does not exist.
            StoreLockedError: another process is adding.
        """
        from ai_os_diffusion.ingestion import Ingestor, Ledger, walk
        from ai_os_diffusion.runtime.indexing import Indexer
        from ai_os_diffusion.runtime.own_folders import refusal

        found = list(walk(paths, takes_all=takes_all, refusal=refusal))
        encoder, retrieval = self.encoder, self.config.retrieval
        if self.has_store:
            self._check_encoder(self.memories)
        storage = None if dry_run else self.storage
        memories = self.memories if self.has_store else None
        tokens = retrieval.chunk_tokens
        if encoder.room is not None:
            tokens = min(tokens, encoder.room)
        indexer = Indexer(
            encoder.provider,
            storage,
            Ingestor(encoder.count, max_tokens=tokens, overlap=retrieval.chunk_overlap),
            Ledger(memories.iter_metadata() if memories else ()),
            memories=memories,
            batch=self.config.performance.embed_batch,
        )
        indexer.add([*found, *texts], progress=progress)
        return indexer.drop_vanished(map(Path, paths), prune=prune)

    def recall(
        self,
        question: str,
        *,
        top_k: int | None = None,
        filter: Metadata | None = None,
        min_similarity: float | None = None,
    ) -> RecallResult:
        """Find the memories that answer to a question, by vectors and by words.

        Args:
            question: in everyday words.
            top_k: memories at most; by default as configured.
            filter: only memories whose metadata has these values.
            min_similarity: cosine the best one must reach, else it abstains; by default as configured,
                else as measured for the encoder.

        Raises:
            QuestionError: the question is no text, holds no word, or is longer than the encoder takes.
            ConfigurationError: the memories were embedded by another model; a number is out of range.
        """
        from ai_os_diffusion.answers.names import says_title
        from ai_os_diffusion.answers.recall import apply_threshold, distinct_hits
        from ai_os_diffusion.runtime.question import asked, check_length, check_limits

        question = asked(question)
        check_limits(top_k, min_similarity)
        threshold = self.config.retrieval.min_similarity if min_similarity is None else min_similarity
        if threshold is None:
            threshold = self._near
        storage = self.searched
        if storage.count() == 0:
            return apply_threshold(question, (), threshold)
        check_length(question, self.encoder)
        vector = self.encoder.encode_query(question)
        broken = self.encoder.broken_share(question)
        retrieval = self.config.retrieval
        wanted = retrieval.top_k if top_k is None else top_k
        k1, b = retrieval.bm25_k1, retrieval.bm25_b
        state: str | None = None

        def search(count: int) -> list[Hit]:
            nonlocal state
            found = storage.query(vector, count, text=question, filter=filter, k1=k1, b=b)
            state = found.state
            scores = [one.similarity for one in found], [one.bm25 for one in found]
            said = [says_title(question, one.memory["metadata"].get("headings")) for one in found]
            order = self._fusion.order(*scores, broken, said)
            return [(found[index].memory, found[index].similarity) for index in order]

        hits = distinct_hits(search, wanted, _FUSED)
        found = apply_threshold(question, hits, threshold, state)
        return replace(found, foreign_words=tuple(self.encoder.unknown_words(question)))

    def ask(self, question: str, **options: Any) -> Answer:
        """Answer a question from memory.

        Args:
            question: in everyday words.
            options: as for `ask_stream`.
        """
        from ai_os_diffusion.answers.answer import Answer

        for event in self.ask_stream(question, **options):
            if isinstance(event, Answer):
                return event
        raise AssertionError("ask_stream ends with an answer")

    def ask_stream(
        self,
        question: str,
        *,
        top_k: int | None = None,
        filter: Metadata | None = None,
        min_similarity: float | None = None,
        max_tokens: int = 96,
        mode: str | None = None,
        before: Before | None = None,
    ) -> Iterator[str | Answer]:
        """Answer a question from memory; unless `mode` asks for more, no model is loaded but the encoder.

        The encoder's reader card points at answers in the passages; the likeliest to be right is said, in the
        words of its passage, or nothing where none is likely enough. Without a reader card the nearest
        sentence or block is quoted, unread.

        Args:
            question: in everyday words.
            top_k: memories to read; by default at least 10.
            filter: only memories whose metadata has these values.
            min_similarity: cosine that the best memory must reach; by default the reader alone decides, and
                without one what `recall` takes.
            max_tokens: length of what a model writes at most.
            mode: "ar" says what was found in a sentence of the decoder's, "diffusion" writes a short answer
                from whole passages; either is shown only where the passages hold it
                (docs/design/0850-the-way-of-a-question.md).
            before: what the question may refer to.

        Yields:
            The text, then the `Answer`; of an abstention only that.
        """
        from ai_os_diffusion.runtime.answering import Answering

        answering = Answering(self, mode=mode, max_tokens=max_tokens)
        found = self.to_read(question, top_k, filter, min_similarity)
        yield from answering.answer(found, before)

    def to_read(
        self,
        question: str,
        top_k: int | None = None,
        filter: Metadata | None = None,
        min_similarity: float | None = None,
    ) -> RecallResult:
        """Recall what `ask` reads, with its arguments."""
        least = self.config.retrieval.min_similarity if min_similarity is None else min_similarity
        if least is None and self.reader is not None:
            least = -1.0
        searched = max(self.config.retrieval.top_k, _SEARCHED) if top_k is None else top_k
        found = self.recall(question, top_k=searched, filter=filter, min_similarity=least)
        return replace(found, threshold=self._near) if least == -1.0 else found

    def generate(
        self, prompt: str | Sequence[Message], *, max_tokens: int, **sampling: Any
    ) -> GenerationStream:
        """Let the decoder go on with a text or a conversation, greedily unless `sampling` says otherwise.

        Args:
            prompt: the text, or the turns so far.
            max_tokens: tokens to write at most.
            sampling: as for `ArrowEngine.generate`.
        """
        settings = {"temperature": 0.0, "repetition_penalty": _REPETITION_PENALTY, **sampling}
        return self.decoder.generate(prompt, max_tokens=max_tokens, stream=True, **settings)

    def chat(self, *, from_memory: bool = True, max_tokens: int = 96, **sampling: Any) -> Conversation:
        """Begin a conversation, whose `reply` answers a message; arguments as for `Conversation`."""
        from ai_os_diffusion.runtime.conversation import Conversation

        return Conversation(self, from_memory=from_memory, max_tokens=max_tokens, **sampling)

    def _engine(self, name: str) -> ArrowEngine:
        from ai_os_diffusion.inference import ArrowEngine
        from ai_os_diffusion.models.local_models import resolve_model

        config = self.config
        folder = resolve_model(name, models_dir=config.models_dir)
        if config.performance.gpu_memory_fraction < 1:
            from ai_os_diffusion.inference.cuda_backend import limit_memory

            limit_memory(config.model.device, config.performance.gpu_memory_fraction)
        engine = ArrowEngine(folder, device=config.model.device, num_threads=config.performance.num_threads)
        return self._opened.enter_context(engine)

    @lazy_property
    def _fusion(self) -> Fusion:
        from ai_os_diffusion.answers.fusion import Fusion

        return Fusion.of(self.encoder.weights_sha256)

    @lazy_property
    def _near(self) -> float | None:
        """Cosine from which a memory counts as near, as measured for the encoder."""
        from ai_os_diffusion.answers.recall import measured_threshold

        return measured_threshold(self.encoder.weights_sha256)

    def _check_encoder(self, storage: ArrowStorage) -> None:
        if not storage.is_made_by(self.encoder.identity):
            raise ConfigurationError(
                f"{storage.path}: embedded by {storage.model}, but the encoder is {self.encoder.identity}; "
                "set model.encoder to the first, or storage.path to another folder"
            )
