"""The Rust extension. Arrays cross as they are; work is done with the GIL released."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

# kernels

def cpu_features() -> dict[str, bool]: ...
def active_isa() -> str: ...

# tokenizer

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
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all texts, int32[total], and where each begins, int64[n + 1]."""

    def encode_batch_with_offsets(
        self,
        texts: Sequence[str],
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncate_left: bool = False,
        num_threads: int = 0,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """As encode_batch, and int64[total, 2]: start and end of each token in characters."""

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of each text, special ones left out: int64[n]."""

    def decode(self, ids: NDArray[np.int64], skip_special_tokens: bool = True) -> str: ...
    def decode_stream(self, skip_special_tokens: bool = True) -> DecodeStream: ...

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
    def zero_copy(self) -> bool: ...
    @property
    def size_bytes(self) -> int: ...
    def info(self, name: str) -> dict[str, Any]: ...
    def plain(self, name: str) -> NDArray[Any]: ...
    def codes(self, name: str) -> NDArray[np.uint8]: ...
    def unpacked_codes(self, name: str) -> NDArray[np.uint8]: ...
    def scales(self, name: str) -> NDArray[Any]: ...
    def zero_points(self, name: str) -> NDArray[Any] | None: ...
    def dequantize(self, name: str) -> NDArray[np.float32]: ...
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
) -> NDArray[np.float32]: ...
def pack_codes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]: ...
def unpack_codes(packed: NDArray[np.uint8], n: int, k: int, bits: int) -> NDArray[np.uint8]: ...
