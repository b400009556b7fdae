"""A tokenizer and the files around it: where they are, and which tokens are special."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_os_diffusion import _native
from ai_os_diffusion.models.untrusted_values import MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES, read_values
from ai_os_diffusion.utils.errors import TokenizerError, TokenizerFileError
from ai_os_diffusion.utils.files.regular_file import open_regular, read_regular

__all__ = ["SPECIAL_NAMES", "TokenizerFiles"]

SPECIAL_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)

# Spellings of models whose folder names no special tokens.
_USUAL_SPELLINGS = {
    "bos_token": ("<s>", "<bos>", "<|begin_of_text|>"),
    "eos_token": ("</s>", "<eos>", "<|im_end|>", "<|endoftext|>"),
    "unk_token": ("[UNK]", "<unk>"),
    "sep_token": ("[SEP]",),
    "pad_token": ("[PAD]", "<pad>", "<|endoftext|>"),
    "cls_token": ("[CLS]",),
    "mask_token": ("[MASK]", "<mask>"),
}


class TokenizerFiles:
    """A tokenizer.json and the settings beside it, all of one time: nothing is read later.

    Args:
        path: a tokenizer.json, or the folder that holds it.

    Attributes:
        tokenizer: the path of tokenizer.json. folder: the one it is in.
        native: the tokenizer itself.
        config: settings of tokenizer_config.json, with special_tokens_map.json below them.
        chat_template: of the model, or None.

    Raises:
        TokenizerError: there is no tokenizer.json.
        TokenizerFileError: it, or a file beside it, is damaged, or no tokenizer of a kind that is known.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path).expanduser()
        self.tokenizer = given / "tokenizer.json" if given.is_dir() else given
        self.folder = self.tokenizer.parent
        try:
            open_regular(self.tokenizer, MAX_TOKENIZER_BYTES, TokenizerFileError).close()
        except (FileNotFoundError, NotADirectoryError):
            raise TokenizerError(_missing(given)) from None
        except OSError as error:
            raise TokenizerError(f"{self.tokenizer}: cannot be read: {error.strerror}") from error
        try:
            self.native = _native.Tokenizer(self.tokenizer)
        except TokenizerError as error:
            raise TokenizerFileError(str(error)) from error
        self.config: Mapping[str, Any] = {
            **self._read("special_tokens_map.json"),
            **self._read("tokenizer_config.json"),
        }
        self.chat_template = self._chat_template()

    def _chat_template(self) -> str | None:
        """The template of the model.

        chat_template.jinja wins over tokenizer_config.json, as in transformers, and metadata.json
        over both: it belongs to this folder, the others were copied from the source.
        """
        template = self._read("metadata.json").get("chat_template")
        if template and isinstance(template, str):
            return template
        file = self.folder / "chat_template.jinja"
        if file.is_file():
            return _read_text(file)
        template = self.config.get("chat_template")
        if isinstance(template, list):
            named = {
                entry["name"]: entry.get("template")
                for entry in template
                if isinstance(entry, dict) and isinstance(entry.get("name"), str)
            }
            template = named.get("default")
        return template if isinstance(template, str) and template else None

    def special_tokens(self, known: Any) -> dict[str, str]:
        """The text of each special token, by its name (`bos_token`, ...).

        Args:
            known: says whether a text is a token of the vocabulary.
        """
        tokens: dict[str, str] = {}
        for name in SPECIAL_NAMES:
            if name in self.config:
                candidates: tuple[str, ...] = (_token_text(self.config[name]),)
            else:
                candidates = _USUAL_SPELLINGS[name] if not self.config else ()
            for text in candidates:
                if text and known(text):
                    tokens[name] = text
                    break
        return tokens

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return dict(read_values(self.folder / name, error=TokenizerFileError).values)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise TokenizerError(f"{self.folder / name}: cannot be read: {error.strerror}") from error


def _token_text(value: Any) -> str:
    """A token is written as text or as an object that holds it."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _read_text(file: Path) -> str:
    try:
        return read_regular(file, MAX_CONFIG_BYTES, TokenizerFileError).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{file}: cannot be read: {error}") from error


def _missing(given: Path) -> str:
    if not given.exists():
        return f"{given}: not found; expected a tokenizer.json or a folder that holds one"
    others = [name for name in ("tokenizer.model", "vocab.txt", "vocab.json") if (given / name).is_file()]
    hint = (
        f"; {others[0]} alone is not enough: save the tokenizer in its fast form with transformers"
        if others
        else "; pull or convert the model again"
    )
    return f"{given}: holds no tokenizer.json{hint}"
