"""The Rust extension. Arrays cross as they are; work is done with the GIL released."""

import os
from collections.abc import Sequence

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
