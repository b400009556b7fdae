"""Text to token ids and back."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.encoded import Encoded, Padding, Side, pad_ragged
from ai_os_diffusion.models.tokenizer_files import TokenizerFiles
from ai_os_diffusion.utils.errors import TokenizerError
from ai_os_diffusion.utils.lazy_property import lazy_property

__all__ = ["DecodeStream", "FastTokenizer"]


# Going through these yields numbers, keys, or texts in any order.
_NO_BATCH = (bytes, bytearray, memoryview, Mapping, Set)


class FastTokenizer:
    """The tokenizer of one model; shared freely between threads.

    Truncation and padding stored in the file are ignored: they are arguments of `encode`.

    Args:
        path: a tokenizer.json, or the folder that holds it. Files beside it (tokenizer_config.json,
            special_tokens_map.json, chat_template.jinja, metadata.json) are read with it.
        padding_side: where `encode` puts padding.
        num_threads: threads of a batch at most; 0 is one for each core.

    Raises:
        TokenizerError: there is no tokenizer.json.
        TokenizerFileError: it, or a file beside it, is damaged, or no tokenizer of a kind that is known.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, padding_side: Side = "right", num_threads: int = 0
    ) -> None:
        self._files = TokenizerFiles(path)
        self.native = self._files.native
        self.padding_side: Side = _one_of("padding_side", padding_side, ("left", "right"))
        self.num_threads = num_threads

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        padding: Padding = "longest",
        max_length: int | None = None,
        truncation: bool | None = None,
        truncation_side: Side = "right",
        pad_to_multiple_of: int | None = None,
        return_offsets: bool = False,
        split_special_tokens: bool = False,
    ) -> Encoded:
        """Turn texts into ids.

        Args:
            texts: a string is a batch of one.
            add_special_tokens: put the model's special tokens around each text.
            padding: "longest" of the batch, "max_length", or False.
            max_length: tokens per text, special ones counted.
            truncation: cut texts to `max_length`; by default when `max_length` is given.
            truncation_side: the end that is cut off.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            return_offsets: also say where each token stands in its text.
            split_special_tokens: take what spells a special token for text, as text that others wrote
                should be; by default it becomes that token, as in `tokenizers` and transformers.

        Raises:
            TokenizerError: a text is not a `str` or holds a lone surrogate; the lengths contradict
                each other.
        """
        truncation = max_length is not None if truncation is None else truncation
        if max_length is None and (truncation or padding == "max_length"):
            raise TokenizerError("truncation and padding='max_length' need max_length, got None")
        if max_length is not None and max_length < 1:
            raise TokenizerError(f"max_length is {max_length}, expected 1 or more")
        limit = max_length if truncation else None
        left = _one_of("truncation_side", truncation_side, ("left", "right")) == "left"
        arguments = (as_batch(texts), add_special_tokens, limit, left, self.num_threads, split_special_tokens)
        spans = None
        if return_offsets:
            ids, bounds, spans = self.native.encode_batch_with_offsets(*arguments)
        else:
            ids, bounds = self.native.encode_batch(*arguments)
        width = _width(bounds, padding, max_length, pad_to_multiple_of)
        rows = None if width is None else pad_ragged(ids, bounds, width, self.pad_id, self.padding_side)
        return Encoded(ids, bounds, rows, spans)

    def encode_ragged(
        self, texts: Sequence[str], max_length: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Turn texts into ids without padding; what they spell is text, and no special token.

        Args:
            texts: a list or tuple of them.
            max_length: tokens per text, special ones counted.

        Returns:
            int32[total], the ids of all texts, and int64[n + 1], where each begins.
        """
        return self.native.encode_batch(
            texts, max_length=max_length, num_threads=self.num_threads, split_special_tokens=True
        )

    def encode_pairs(
        self, first: str, seconds: Sequence[str], max_length: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]]:
        """Turn a text with each of several others into ids; what they spell is text, and no special token.

        Args:
            first: stands before each of the others.
            seconds: a list or tuple of them.
            max_length: tokens per pair, special ones counted; the longer text is cut first.

        Returns:
            int32[total], the ids of all pairs; int64[n + 1], where each begins; uint8[total], token types.

        Raises:
            TokenizerError: a text is not a `str` or holds a lone surrogate; `max_length` is too small.
        """
        return self.native.encode_pairs(first, seconds, max_length)

    def count(self, texts: str | Sequence[str]) -> NDArray[np.int64]:
        """Count the tokens of each text, in which nothing counts as a special token: int64[n]."""
        return self.native.count(as_batch(texts))

    def broken_share(self, text: str) -> float:
        """Share of a text's tokens that are fragments of words, or of no known word: 0 to 1.

        High where the vocabulary was made from other languages, or the text is full of identifiers.
        What scripts write without a space between is one word here.
        """
        encoded = self.encode(text, add_special_tokens=False, return_offsets=True, split_special_tokens=True)
        assert encoded.offsets is not None
        unknown = self._special_id("unk_token")
        inside = [_is_of_word(before) and _is_of_word(after) for before, after in pairwise(text)]
        inside = [False, *inside, False]
        tokens = list(zip(encoded.ids[0].tolist(), encoded.offsets[0].tolist(), strict=True))
        broken = sum(id == unknown or inside[begin] or inside[end] for id, (begin, end) in tokens)
        return broken / len(tokens) if tokens else 0.0

    def decode(self, ids: ArrayLike, *, skip_special_tokens: bool = True) -> str:
        """Turn ids [length] into text; ids beyond the vocabulary are left out."""
        return self.native.decode(_id_array(ids), skip_special_tokens)

    def batch_decode(self, batch: Iterable[ArrayLike], *, skip_special_tokens: bool = True) -> list[str]:
        """Turn rows of ids, of one length or not, into texts."""
        return [self.decode(ids, skip_special_tokens=skip_special_tokens) for ids in batch]

    def decode_stream(self, *, skip_special_tokens: bool = True) -> DecodeStream:
        """Start decoding ids one at a time."""
        return DecodeStream(self.native.decode_stream(skip_special_tokens))

    @property
    def vocab_size(self) -> int:
        """Number of ids, those of added tokens included."""
        return self.native.vocab_size

    def __len__(self) -> int:
        return self.vocab_size

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it, or None."""
        return self.native.token_to_id(token)

    def id_to_token(self, id: int) -> str | None:
        """The token of an id as the vocabulary spells it, or None."""
        return self.native.id_to_token(id)

    @lazy_property
    def special_tokens(self) -> Mapping[str, str]:
        """Text of the special tokens by name: `bos_token`, `eos_token`, `pad_token`, ..."""
        return self._files.special_tokens(lambda text: self.token_to_id(text) is not None)

    @lazy_property
    def special_ids(self) -> frozenset[int]:
        """Every id that `skip_special_tokens` leaves out."""
        return frozenset(id for id, _ in self.native.special_tokens)

    def _special_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self.token_to_id(token)

    @property
    def bos_id(self) -> int | None:
        """Id that begins a text."""
        return self._special_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """Id that ends a text."""
        return self._special_id("eos_token")

    @property
    def mask_id(self) -> int | None:
        """Id of a masked position."""
        return self._special_id("mask_token")

    @lazy_property
    def pad_id(self) -> int:
        """Id of padded positions; without a pad token the end token, or 0: the mask hides it."""
        ids = (self._special_id("pad_token"), self.eos_id, 0)
        return next(id for id in ids if id is not None)

    @property
    def chat_template(self) -> str | None:
        """Source of the model's chat template."""
        return self._files.chat_template

    @overload
    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = ...,
        tools: Sequence[Any] | None = ...,
        tokenize: Literal[False] = ...,
        chat_template: str | None = ...,
        **variables: Any,
    ) -> str: ...

    @overload
    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = ...,
        tools: Sequence[Any] | None = ...,
        tokenize: Literal[True],
        chat_template: str | None = ...,
        **variables: Any,
    ) -> NDArray[np.int32]: ...

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        tokenize: bool = False,
        chat_template: str | None = None,
        **variables: Any,
    ) -> str | NDArray[np.int32]:
        """Write a conversation as the model was trained to read it.

        In the ids, special tokens are those that the template writes. Whatever the messages, tools and
        variables spell stays text, also where the template trims, cuts or joins it. The text has lost that
        distinction: tokenised by itself, it may hold special tokens that a message spelled.

        Args:
            messages: turns with `role` and `content`; all in the types of JSON.
            add_generation_prompt: end where the assistant begins.
            tools: JSON schemas of functions the model may call.
            tokenize: return int32[length] ids in place of text.
            chat_template: used in place of the model's.
            **variables: further names the template may use.

        Raises:
            TokenizerError: the model has no template, or it fails; the message names its line.
        """
        from ai_os_diffusion.inference.template.chat_template import render_chat_template, trusted_ranges

        source = chat_template or self.chat_template
        if not source:
            raise TokenizerError(
                f"{self._files.folder}: the model has no chat template; expected one in metadata.json, "
                "chat_template.jinja or tokenizer_config.json; pass chat_template=..., or a plain prompt"
            )
        context = {**variables, "tools": tools, "messages": messages}
        context["add_generation_prompt"] = add_generation_prompt
        # A caller who renames a special token still means one.
        own = {name: variables.get(name, token) for name, token in self.special_tokens.items()}
        text = render_chat_template(source, context, own)
        # The template writes its own special tokens.
        return self.native.encode_marked(text, trusted_ranges(text)) if tokenize else str(text)

    def __repr__(self) -> str:
        return f"FastTokenizer({str(self._files.tokenizer)!r}, vocab_size={self.vocab_size})"


class DecodeStream:
    """Text of ids that arrive one at a time; the pieces joined equal `decode` of all ids."""

    def __init__(self, native: _native.DecodeStream) -> None:
        self.native = native

    def step(self, id: int) -> str:
        """Take one id; return the text now certain, which may be empty, at whole characters."""
        return self.native.step(id)

    def finish(self) -> str:
        """Return what was held back, and start anew."""
        return self.native.finish()


def _is_of_word(character: str) -> bool:
    """Letters, digits, and the marks that are put on them."""
    return unicodedata.category(character)[0] in "LNM"


def as_batch(texts: str | Iterable[str]) -> Sequence[str]:
    """A string is a batch of one; arrays and other iterables of strings become lists.

    Raises:
        TokenizerError: it is nothing that holds texts in an order.
    """
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, list | tuple):
        return texts
    if isinstance(texts, _NO_BATCH) or not isinstance(texts, Iterable):
        raise TokenizerError(f"expected a str or a sequence of str, got {type(texts).__name__}")
    return list(texts)


def _width(
    bounds: NDArray[np.int64], padding: Padding, max_length: int | None, multiple: int | None
) -> int | None:
    """Length of the padded rows, or None if the texts cannot be rows."""
    lengths = np.diff(bounds)
    longest = int(lengths.max(initial=0))
    if padding is False:
        return longest if (lengths == longest).all() else None
    if padding == "longest":
        width = longest
    elif padding == "max_length" and max_length is not None:
        width = max_length
        if longest > width:
            raise TokenizerError(
                f"text {int(lengths.argmax())} has {longest} tokens, expected at most max_length={width}; "
                "encode with truncation=True or a larger max_length"
            )
    else:
        raise TokenizerError(f"padding is {padding!r}, expected 'longest', 'max_length' or False")
    if multiple is None:
        return width
    if multiple < 1:
        raise TokenizerError(f"pad_to_multiple_of is {multiple}, expected 1 or more")
    return -(-width // multiple) * multiple


def _id_array(ids: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim == 0 or not np.issubdtype(array.dtype, np.integer):
        raise TokenizerError(f"expected ids as integers [length], got {array.dtype}{list(array.shape)}")
    if array.ndim > 1:
        raise TokenizerError(f"expected ids [length], got {list(array.shape)}; use batch_decode for rows")
    return np.ascontiguousarray(array, np.int64)


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise TokenizerError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    return value
