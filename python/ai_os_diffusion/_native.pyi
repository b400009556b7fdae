"""The Rust extension. Arrays cross as they are; work is done with the GIL released."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Adapter",
    "DecodeStream",
    "HtmlTree",
    "Model",
    "Sampler",
    "Scan",
    "Session",
    "Snapshot",
    "Store",
    "Tokenizer",
    "Trainer",
    "WeightFile",
    "WeightWriter",
    "active_isa",
    "blocks_of_markdown",
    "cpu_features",
    "decode_bytes",
    "dequantize_array",
    "detect_encoding",
    "encoding_of_label",
    "families_json",
    "filter_holds_for_all",
    "json_lines",
    "layout_json",
    "pack_codes",
    "quantize_array",
    "sentences",
    "tensors_of_model",
    "unpack_codes",
]

# inference

@final
class Adapter:
    """Cards mixed by their weights, prepared for the passes of one model, which stays as it is.

    A card is its name, its tensors, the factor of its low-rank products, the rows of the embedding and the
    heads that it brings, and how much of it is used. With `merge` they serve passes alone whose rows all use
    them, and no session: they are merged into copies of the layers where these save more time than they take
    memory.
    """

    def __new__(
        cls,
        model: Model,
        cards: Sequence[
            tuple[
                str, WeightFile | dict[str, NDArray[np.float32]], float, Sequence[int], Sequence[str], float
            ]
        ],
        merge: bool = False,
    ) -> Adapter: ...

@final
class Model:
    """A network with its weights; shared freely between threads.

    A batch is int32[total] ids and int64[n + 1] offsets: sequence i is `ids[offsets[i]:offsets[i + 1]]`.
    """

    def __new__(
        cls, weights: WeightFile | dict[str, NDArray[np.float32]], metadata_json: str, num_threads: int
    ) -> Model: ...
    @property
    def dimension(self) -> int: ...
    @property
    def num_threads(self) -> int: ...
    def limit_prefixes(self, size_bytes: int) -> None:
        """Bound what is kept of the beginnings of texts; 0 keeps nothing."""

    def prefix_stats(self) -> dict[str, int]:
        """size_bytes, limit_bytes, pages (of at most 64 tokens), reused_tokens, dropped_pages."""

    def embed(
        self,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        pooling: str,
        normalize: bool,
        skip: int = 0,
        adapter: Adapter | None = None,
    ) -> NDArray[np.float32]:
        """float32[n, hidden]; the first `skip` tokens of each sequence are not pooled."""

    def hidden_states(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64], adapter: Adapter | None = None
    ) -> NDArray[np.float32]:
        """float32[total, hidden], after a decoder's last norm."""

    def head_scores(
        self,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        types: NDArray[np.uint8],
        head: str,
        adapter: Adapter,
    ) -> NDArray[np.float32]:
        """float32[total, outputs] of a card's head; token types uint8[total], or none for 0."""

    def class_scores(
        self,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        types: NDArray[np.uint8],
        pooling: str,
        adapter: Adapter | None,
    ) -> NDArray[np.float32]:
        """float32[n, labels] of the model's head for whole texts; token types as of `head_scores`."""

    def logits(self, ids: NDArray[np.int32], adapter: Adapter | None = None) -> NDArray[np.float32]:
        """float32[length, vocab] of one sequence."""

    def token_nll(
        self, ids: NDArray[np.int32], first: int, adapter: Adapter | None = None
    ) -> NDArray[np.float32]:
        """float32[length - first]: nats of ids[first:], each given all before it."""

_TrainedBatch = tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]
]
"""Ids, places in the text, levels, numbers of copies and documents; each int32[n]."""

@final
class Trainer:
    """A card in the making, on a decoder or an encoder that stays as it is; gradients in float32.

    Products with the base's weights are of operands rounded to bfloat16, if that is wanted.

    Parameters are named as a card's tensors: low-rank factors of linear layers, norms, rows of the embedding,
    and side blocks of a decoder, of which dropout leaves nothing out.
    What a position sees is what `training.positions.visible` says. A card beneath, with its scaling and the
    tokens whose rows it brings, belongs to what the model itself says, and stays as it is.
    """

    def __new__(
        cls,
        weights: WeightFile | dict[str, NDArray[np.float32]],
        metadata_json: str,
        parameters: dict[str, NDArray[np.float32]],
        *,
        scaling: float,
        row_ids: Sequence[int] = ...,
        dropout: float = 0.0,
        num_threads: int = 0,
        brain_floats: bool = False,
        beneath: tuple[WeightFile, float, Sequence[int]] | None = None,
    ) -> Trainer: ...
    def accumulate(
        self,
        batch: _TrainedBatch,
        weights: NDArray[np.float32],
        *,
        labels: NDArray[np.int32] | None = None,
        base: NDArray[np.float32] | None = None,
        first_row: int = 0,
        seed: int = 0,
    ) -> float:
        """Add up gradients of weighted losses; their sum.

        Of labels, int32[n], cross-entropy; of base, final states [positions that count, hidden] of the model
        itself, its divergence from what is said now. What dropout leaves out follows from first_row and seed.
        """

    def measure(
        self,
        batch: _TrainedBatch,
        weights: NDArray[np.float32],
        *,
        labels: NDArray[np.int32] | None = None,
        base: NDArray[np.float32] | None = None,
    ) -> tuple[float, int]:
        """The sum of weighted losses, and how many positions would write their label."""

    def accumulate_states(
        self,
        batch: _TrainedBatch,
        gradient: NDArray[np.float32],
        *,
        first_row: int = 0,
        seed: int = 0,
    ) -> float:
        """Add up gradients of a loss that changes by gradient[n, hidden] with the final states.

        Returns the states times that gradient.
        """

    def states(self, batch: _TrainedBatch, *, first_row: int = 0, seed: int = 0) -> NDArray[np.float32]:
        """float32[n, hidden]: final states with what is trained, as `accumulate_states` has them."""

    def base_states(self, batch: _TrainedBatch, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[rows, hidden]: final states of the model itself."""

    def step(
        self,
        rate: float,
        *,
        betas: Sequence[float] = ...,
        weight_decay: float = 0.0,
        clip: float = 1.0,
    ) -> float:
        """Take a step of AdamW and clear the gradients; their length before it was cut."""

    @property
    def steps(self) -> int: ...
    def parameters(self) -> dict[str, NDArray[np.float32]]: ...
    def gradients(self) -> dict[str, NDArray[np.float32]]: ...
    def state(
        self,
    ) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
        """Values and both moments of each parameter."""

    def restore(
        self,
        steps: int,
        state: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]],
    ) -> None: ...

@final
class Sampler:
    """Chooses tokens; its random sequence goes on from call to call."""

    def __new__(
        cls,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> Sampler: ...
    def sample(self, logits: NDArray[np.float32], history: NDArray[np.uint32]) -> tuple[int, float]:
        """Id and log-probability; float32[vocab] logits, and the tokens so far."""

    @property
    def settings(self) -> tuple[float, int, float, float, float]:
        """temperature, top_k, top_p, min_p, repetition_penalty."""

    def draws(self, count: int) -> NDArray[np.float64]:
        """The next numbers of its random sequence, in [0, 1), for a device that chooses as it does."""

_Predictions = tuple[
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32] | None,
]
"""Id, its probability and the entropy of each row; the most probable ids and their probabilities; logits."""

@final
class Session:
    """One text that grows, with the keys and values of its tokens. Belongs to one caller."""

    def __new__(
        cls, model: Model, max_tokens: int, half_cache: bool = False, adapter: Adapter | None = None
    ) -> Session: ...
    def prefill(self, ids: NDArray[np.int32], causal: bool = True) -> None:
        """Read tokens behind those it has; unless causal, all of them see each other."""

    @staticmethod
    def prefill_all(
        sessions: Sequence[Session], ids: Sequence[NDArray[np.int32]], causal: bool = True
    ) -> None:
        """Read ids[i] behind the tokens of sessions[i], in common passes; unless causal one by one."""

    def predict(
        self,
        ids: NDArray[np.int32],
        rows: NDArray[np.int64],
        sampler: Sampler | None = None,
        *,
        top_k: int = 0,
        forbidden: Sequence[int] | None = None,
        logits: bool = False,
    ) -> _Predictions:
        """Rows of a block that sees itself and the tokens read so far, and leaves nothing behind.

        Id, its probability and the entropy of each row, [n]; the most probable ids and their
        probabilities, [n, top_k]; logits, [n, vocab], if asked for.
        """

    @staticmethod
    def predict_all(
        sessions: Sequence[Session],
        ids: Sequence[NDArray[np.int32]],
        rows: Sequence[NDArray[np.int64]],
        samplers: Sequence[Sampler],
        *,
        top_k: int = 0,
        forbidden: Sequence[int] | None = None,
        allowed: Sequence[Sequence[tuple[int, Sequence[int]]]] | None = None,
        guidance: tuple[float, Sequence[Session], Sequence[NDArray[np.int32]]] | None = None,
        places: Sequence[tuple[NDArray[np.int32], int] | None] | None = None,
        prefix: bool = False,
    ) -> list[_Predictions]:
        """As `predict`, of a block for each session, in one pass.

        Of block i, allowed[i] names for some of rows[i], by index, the only tokens that may be chosen. With
        guidance (s, others, blocks) logits are u + s (c - u), u those of blocks[i] behind others[i].
        places[i] are positions of the block's tokens, none for those behind what was read, and how many of
        them, from the first on, stay behind it as they are in this pass. With prefix those that stay see each
        other and what was read, and not what follows them.
        """

    def push(self, id: int) -> None: ...
    def sample(self, sampler: Sampler) -> tuple[int, float]:
        """Id and log-probability of a next token, which is not read yet."""

    def generate(self, count: int, sampler: Sampler | None = None) -> NDArray[np.int32]:
        """Choose and read count tokens, whatever they are; greedily without a sampler."""

    def truncate(self, length: int) -> None:
        """Forget the tokens from length on."""

    def logits(self) -> NDArray[np.float32]:
        """float32[vocab] of the token after the last; empty if there is none."""

    def __len__(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def cache_bytes(self) -> int: ...

def families_json() -> str:
    """A list of the families of networks, as `crates/cpu_inference/src/models` describes them."""

def layout_json(metadata_json: str) -> str:
    """The parts of a model's network by what they are for, with their names and shapes.

    Raises:
        ModelLoadError: the description cannot be read, or is of another family.
    """

def tensors_of_model(metadata_json: str) -> list[tuple[str, list[int], str, bool]]:
    """Name, shape, kind and whether it is needed of every tensor of a model.

    A kind is "words", "table", "head", "linear" or "vector".

    Raises:
        ModelLoadError: as of `layout_json`.
    """

# kernels

def cpu_features() -> dict[str, bool]: ...
def active_isa() -> str: ...

# storage

_Row = tuple[str, str, str, int, int, NDArray[np.float32]]
"""Id, content, metadata as JSON, microseconds of creation and of the last change, float32[dim]."""

def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of a text, as ranges of its characters, without the white space around them."""

def filter_holds_for_all(filter: str) -> bool:
    """Whether no memory could fail a filter."""

@final
class Store:
    """A store of memories; shared freely between threads."""

    def __new__(
        cls,
        path: str | os.PathLike[str],
        *,
        dimension: int | None = None,
        read_only: bool = False,
        durability: str = "commit",
        lock_timeout_s: float = 0.0,
        model: str | None = None,
        skip_damaged: bool = False,
    ) -> Store: ...
    def save(
        self,
        ids: Sequence[str],
        contents: Sequence[str],
        metadata: Sequence[str],
        embeddings: NDArray[np.float32],
        times: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        gone: Sequence[str] = ...,
        new: bool = False,
    ) -> None:
        """Parallel columns; float32[n, dim]; int64[n] of creation and of the last change; ids to remove.

        With `new`, ids that are there are refused.
        """

    def refusals(
        self,
        ids: Sequence[str],
        contents: Sequence[str],
        metadata: Sequence[str],
        embeddings: NDArray[np.float32],
    ) -> list[tuple[int, str]]:
        """Places and reasons of the columns' rows that `save` would refuse."""

    def absorb(self, other: Snapshot, gone: Sequence[str]) -> None:
        """Take in another store's memories and remove those of the ids, in one commit."""

    def update(
        self,
        id: str,
        content: str | None = None,
        metadata: str | None = None,
        embedding: NDArray[np.float32] | None = None,
    ) -> bool: ...
    def delete(self, ids: Sequence[str]) -> int: ...
    def delete_where(self, filter: str, everything: bool = False) -> int: ...
    def flush(self) -> None: ...
    def compact(self) -> None: ...
    def rebuild_text_index(self) -> None: ...
    def snapshot(self) -> Snapshot: ...
    def verify(self) -> list[str]: ...
    def stats(self) -> dict[str, Any]: ...
    def import_parquet(self, path: str | os.PathLike[str], verify: bool = True) -> int: ...
    def take_model(self, path: str | os.PathLike[str], model: str) -> None:
        """Refuse vectors that do not compare; an empty store becomes one of this model."""

    def is_made_by(self, model: str) -> bool: ...
    def close(self) -> None: ...

@final
class Snapshot:
    """A view of a store at one commit."""

    @property
    def dimension(self) -> int | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def version(self) -> int: ...
    def load(self, id: str) -> _Row | None: ...
    def load_many(self, ids: Sequence[str]) -> list[_Row | None]: ...
    def count(self, filter: str | None = None) -> int: ...
    def search(
        self,
        queries: NDArray[np.float32],
        top_k: int,
        metric: str = "cosine",
        min_similarity: float | None = None,
        filter: str | None = None,
        num_threads: int = 0,
    ) -> list[list[tuple[_Row, float]]]:
        """For each row of float32[n, dim], the nearest memories and their similarities."""

    def search_text(
        self, query: str, top_k: int, k1: float, b: float, filter: str | None = None
    ) -> tuple[list[tuple[_Row, float]], str]:
        """The memories that hold words of a query and their scores, and how the words were looked for."""

    def search_both(
        self,
        vector: NDArray[np.float32],
        query: str,
        top_k: int,
        k1: float,
        b: float,
        metric: str = "cosine",
        min_similarity: float | None = None,
        filter: str | None = None,
        num_threads: int = 0,
    ) -> tuple[list[tuple[_Row, float, float]], str]:
        """The best of both searches, similarity and score of each, and how the words were looked for."""

    def scan(self, filter: str | None = None) -> Scan: ...
    def export_parquet(self, path: str | os.PathLike[str]) -> int: ...

@final
class Scan:
    """Memories in the order of their ids."""

    def next_batch(self, most: int) -> list[_Row]: ...
    def next_metadata(self, most: int) -> list[tuple[str, str | None]]:
        """Id and metadata alone; None for metadata that is damaged and skipped."""

# tokenizer

@final
class Tokenizer:
    """Text to token ids and back; shared freely between threads."""

    def __new__(cls, path: str | os.PathLike[str]) -> Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def special_count(self) -> int: ...
    @property
    def special_tokens(self) -> list[tuple[int, str]]: ...
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, id: int) -> str | None: ...
    def encode_batch(
        self,
        texts: Sequence[str],
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncate_left: bool = False,
        num_threads: int = 0,
        split_special_tokens: bool = False,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all texts, int32[total], and where each begins, int64[n + 1]."""

    def encode_batch_with_offsets(
        self,
        texts: Sequence[str],
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncate_left: bool = False,
        num_threads: int = 0,
        split_special_tokens: bool = False,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """As encode_batch, and int64[total, 2]: start and end of each token in characters."""

    def encode_pairs(
        self, first: str, seconds: Sequence[str], max_length: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]]:
        """Ids of a text with each of others, where each pair begins, and token types, uint8[total].

        Nothing counts as a control token; of what is too long the longer text is cut first.
        """

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of each text, in which no control token counts: int64[n]."""

    def encode_marked(self, text: str, trusted: list[tuple[int, int]]) -> NDArray[np.int32]:
        """Ids of a text in which control tokens count only within ranges of characters, in order."""

    def decode(self, ids: NDArray[np.int64], skip_special_tokens: bool = True) -> str: ...
    def decode_stream(self, skip_special_tokens: bool = True) -> DecodeStream: ...

@final
class DecodeStream:
    """Text of ids that arrive one at a time."""

    def step(self, id: int) -> str: ...
    def finish(self) -> str: ...

# weights

@final
class WeightFile:
    """An open weight file; its arrays are read-only views that keep it mapped."""

    def __new__(cls, path: str | os.PathLike[str]) -> WeightFile: ...
    @property
    def path(self) -> Path: ...
    @property
    def schema_version(self) -> int: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...
    @property
    def zero_copy(self) -> bool: ...
    @property
    def size_bytes(self) -> int: ...
    def info(self, name: str) -> dict[str, Any]: ...
    def plain(self, name: str) -> NDArray[Any]: ...
    def codes(self, name: str) -> NDArray[np.uint8]: ...
    def unpacked_codes(self, name: str) -> NDArray[np.uint8]: ...
    def scales(self, name: str) -> NDArray[Any]: ...
    def zero_points(self, name: str) -> NDArray[Any] | None: ...
    def dequantize(self, name: str, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]: ...
    def verify(self, progress: Callable[[int], object] | None = None) -> int: ...
    def __len__(self) -> int: ...

@final
class WeightWriter:
    """Streams tensors into a weight file that appears whole, by `finish`, or not at all."""

    def __new__(
        cls, path: str | os.PathLike[str], metadata: Mapping[str, str] = ..., schema_version: int = 2
    ) -> WeightWriter: ...
    def add_plain(self, name: str, array: NDArray[Any]) -> None: ...
    def add_quantized(
        self,
        name: str,
        array: NDArray[Any],
        bits: int,
        group_size: int = 0,
        grid: str = "symmetric",
        progress: Callable[[int], object] | None = None,
    ) -> None: ...
    def add_codes(
        self,
        name: str,
        codes: NDArray[np.uint8],
        scales: NDArray[Any],
        zero_points: NDArray[Any] | None,
        bits: int,
        group_size: int,
    ) -> None: ...
    def finish(self) -> int: ...
    def abort(self) -> None: ...

def quantize_array(
    array: NDArray[Any],
    bits: int,
    group_size: int = 0,
    grid: str = "symmetric",
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any] | None]: ...
def dequantize_array(
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    zero_points: NDArray[Any] | None,
    shape: Sequence[int],
    bits: int,
    group_size: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def pack_codes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]: ...
def unpack_codes(packed: NDArray[np.uint8], n: int, k: int, bits: int) -> NDArray[np.uint8]: ...

# ingestion

@final
class HtmlTree:
    """A page as a browser without scripts parses it; an iterator over it in the order of the document.

    An event is (1, name, line, attributes) where an element begins, (0, text, line, None) for text within
    one line, (-1, "", 0, None) where the element opened last ends. Of attributes there are only those
    that say what is shown.
    """

    def __new__(cls, text: str) -> HtmlTree: ...
    @property
    def limits(self) -> list[tuple[str, int]]:
        """Which of "depth", "nodes" and "attributes" was met, with the first line where it was."""

    def __iter__(self) -> HtmlTree: ...
    def __next__(self) -> tuple[int, str, int, dict[str, str] | None]: ...

def blocks_of_markdown(text: str, is_whole: bool, apart: int) -> tuple[NDArray[np.int64], str, int]:
    """The blocks of a Markdown document, or of a piece of one, whose last block is left for the next piece.

    Args:
        text: the document; lines end with line feeds.
        is_whole: nothing follows.
        apart: blocks beyond which small neighbours of one kind come together.

    Returns:
        int64[n, 5], a row for each block: kind (0 prose, 1 to 6 a heading of that level, 7 code, 8 a row of a
        table, 9 HTML, 10 a footnote), first character and the one behind the last, lines above the first and
        above the last line; what each heading says in single blanks, one a line; how many characters
        were read.

    Raises:
        IngestError: the parser failed.
    """

def json_lines(
    text: str, most_values: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], str]:
    """Which lines of a text are one JSON value each, and what the plainest of them say.

    Args:
        text: lines separated by line feeds.
        most_values: lists of more values are not plain.

    Returns:
        int64[n], int64[m], int64[k]: lines, from 0, that `json` may read; that it refuses; and that are no
        object and that it would write as they stand, white space aside. Blank ones are nowhere. Then those k
        values, one a line: strings without quotes and white space around them, others as `json` writes them.
    """

def encoding_of_label(label: str) -> str | None:
    """The encoding that a label of the web means, such as "windows-1252" for "latin1"."""

def detect_encoding(data: bytes) -> str:
    """The encoding that bytes which are not UTF-8 are most likely in."""

def decode_bytes(data: bytes, label: str) -> tuple[str, list[int]] | None:
    """The text, and the offsets of malformed bytes, each read as one U+FFFD; None for an unknown label."""
