"""A Hugging Face or sentence-transformers folder: configuration, tokenizer, and weights in either format."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.convert.byte_pairs import tokenizer_of_files
from ai_os_diffusion.models.convert.pytorch_bin import read_pytorch
from ai_os_diffusion.models.convert.safetensors import read_safetensors, shards_of
from ai_os_diffusion.models.convert.settings.architecture import canonical_name, metadata_from_config
from ai_os_diffusion.models.convert.settings.diffusion_checkpoints import diffusion_checkpoint
from ai_os_diffusion.models.convert.settings.head import head_of_config
from ai_os_diffusion.models.convert.settings.known_settings import CONFIG, GENERATION, TOKENIZER
from ai_os_diffusion.models.convert.settings.sentence_settings import (
    SentenceSettings,
    read_optional,
    transformer_folder,
)
from ai_os_diffusion.models.convert.settings.settings_check import check_settings
from ai_os_diffusion.models.convert.settings.tokenizer_settings import (
    added_ids,
    apply_tokenizer_settings,
    token_ids,
    token_text,
)
from ai_os_diffusion.models.convert.source import Description, SourceTensor
from ai_os_diffusion.models.family import family_of
from ai_os_diffusion.models.untrusted_values import (
    MAX_CONFIG_BYTES,
    MAX_LAYERS,
    MAX_TOKENIZER_BYTES,
    UntrustedValues,
    read_values,
)
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, ModelNotFoundError, WeightError
from ai_os_diffusion.utils.files.regular_file import read_regular
from ai_os_diffusion.utils.lazy_property import lazy_property

__all__ = ["HuggingFaceFolder"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_SOURCE_FILES = ("config.json", *_TOKENIZER_FILES)


class HuggingFaceFolder:
    """A folder with `config.json`, a tokenizer and weights."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of the weights.

        Raises:
            ModelLoadError: a file is missing or says something that cannot be run.
            WeightError: the weights are damaged.
        """
        self._outer, self.folder = folder, transformer_folder(folder)
        try:
            self._config = read_values(self.folder / "config.json")
        except FileNotFoundError:
            raise ModelNotFoundError(
                f"{self.folder}: no config.json; expected a Hugging Face model folder"
            ) from None
        self._metadata = metadata_from_config(self._config.values, self._config.place)
        self._diffusion = diffusion_checkpoint(self._config)
        if self._diffusion is None:
            self._remarks = check_settings(self._config, CONFIG)
        else:
            self._config = self._diffusion.named(self._config)
            self._remarks = check_settings(self._config, self._diffusion.table)
            self._remarks += (
                [f"{self._config.place}: {self._diffusion.remark}"] if self._diffusion.remark else []
            )
        self._sentence = SentenceSettings(folder, self._tokenizer_config, self._metadata["hidden_size"])
        if self._diffusion is None and (self._sentence.is_reranker or not self._sentence.has_modules):
            self._metadata |= head_of_config(self._config, self._metadata["architecture"])
        if self._sentence.is_reranker and "num_labels" not in self._metadata:
            raise ModelLoadError(f"{self._config.place}: a CrossEncoder without a head that scores pairs")
        if (self.folder / "adapter_config.json").exists():
            raise ModelLoadError(
                f"{self.folder}/adapter_config.json: an adapter that changes the weights; merge it into them "
                "(merge_and_unload of peft) and save the model, or remove the file"
            )
        self.weight_paths = _weight_paths(self.folder)
        self.tensors, self.dropped = self._read_tensors()
        if self._lacks_head():
            self._metadata |= {"tied_embeddings": True, "has_head": False}

    @property
    def paths(self) -> Sequence[Path]:
        """The files read, for their checksums."""
        return [
            *self.weight_paths,
            *(path for name in _SOURCE_FILES if (path := self.folder / name).is_file()),
        ]

    @lazy_property
    def _tokenizer_config(self) -> UntrustedValues:
        """Settings of tokenizer_config.json, with special_tokens_map.json below them."""
        values = read_optional(self.folder / "tokenizer_config.json")
        below = read_optional(self.folder / "special_tokens_map.json")
        return UntrustedValues(values.place, {**below.values, **values.values})

    def _read_tensors(self) -> tuple[list[SourceTensor], list[str]]:
        family, tensors, dropped = family_of(self._metadata["architecture"]), {}, []
        classifies = self._metadata.get("num_labels", 0) > 0
        for path in self.weight_paths:
            read = read_safetensors if path.suffix == ".safetensors" else read_pytorch
            for tensor in read(path):
                theirs = tensor.name if self._diffusion is None else self._diffusion.tensor_name(tensor.name)
                name = canonical_name(family, theirs, classifies=classifies)
                if name is None:
                    dropped.append(tensor.name)
                elif name in tensors:
                    raise WeightError(f"{path}: tensor {tensor.name!r} occurs twice as {name!r}")
                else:
                    tensors[name] = dataclasses.replace(tensor, name=name)
        head, table = (tensors.get(f"{name}.weight") for name in (family.head, family.words))
        if self._metadata["tied_embeddings"] and head is not None and table is not None:
            # Pickles hold the tied matrix twice. If they differ, the configuration is wrong, and transformers
            # goes by the weights.
            if _is_same(head, table):
                del tensors[f"{family.head}.weight"]
                dropped.append(head.name)
            else:
                self._metadata["tied_embeddings"] = False
        return list(tensors.values()), dropped

    def _lacks_head(self) -> bool:
        """Whether a decoder was saved as the bare model that embedding needs."""
        if self._diffusion is not None:
            return False
        named = self._config.texts("architectures", high=MAX_LAYERS)
        head = f"{family_of(self._metadata['architecture']).head}.weight"
        is_bare = self._sentence.has_modules or (
            bool(named) and all(name.endswith("Model") for name in named)
        )
        return (
            is_bare
            and not self._metadata["tied_embeddings"]
            and all(tensor.name != head for tensor in self.tensors)
        )

    def describe(self) -> Description:
        """Read configuration, pooling, prompts, tokenizer and licence."""
        metadata = dict(self._metadata)
        files = {}
        for name in _TOKENIZER_FILES:
            limit = MAX_TOKENIZER_BYTES if name == "tokenizer.json" else MAX_CONFIG_BYTES
            if (self.folder / name).exists():
                files[name] = read_regular(self.folder / name, limit, ModelDamagedError)
        built = None if "tokenizer.json" in files else tokenizer_of_files(self.folder, self._tokenizer_config)
        if built is not None:
            files["tokenizer.json"] = built
        if "tokenizer.json" not in files:
            raise ModelNotFoundError(
                f"{self.folder}: no tokenizer.json; save it with transformers' "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        self._remarks += check_settings(self._tokenizer_config, TOKENIZER)
        place = self.folder / "tokenizer.json"
        tokenizer = (
            read_values(place, MAX_TOKENIZER_BYTES)
            if built is None
            else UntrustedValues(str(place), json.loads(built))
        )
        files["tokenizer.json"] = apply_tokenizer_settings(
            files["tokenizer.json"],
            tokenizer,
            self._tokenizer_config,
            architecture=metadata["architecture"],
            lowercases=self._sentence.lowercases,
        )
        metadata.update(self._sentence.metadata(metadata["max_position_embeddings"]))
        metadata.update(self._generation_settings(tokenizer))
        if self._diffusion is not None:
            metadata["diffusion"] = self._diffusion.diffusion(
                self._config,
                self._tokenizer_config,
                token_ids(tokenizer),
                metadata["eos_token_ids"],
                metadata["chat_template"],
            )
        licence = self._licence()
        if licence:
            metadata["source"] = {"license": licence}
        return Description(metadata, files, [*self._remarks, *self._sentence.remarks])

    def _generation_settings(self, tokenizer: UntrustedValues) -> dict[str, Any]:
        """Stop tokens, chat template and mask token."""
        settings: dict[str, Any] = {}
        generation = read_optional(self.folder / "generation_config.json")
        self._remarks += check_settings(generation, GENERATION)
        if "eos_token_id" in generation:
            settings["eos_token_ids"] = generation.ids("eos_token_id")
        settings["chat_template"] = self._chat_template()
        mask = token_text(self._tokenizer_config, "mask_token")
        settings["mask_token_id"] = None if mask is None else added_ids(tokenizer).get(mask)
        return settings

    def _chat_template(self) -> str | None:
        """A file of its own wins, as in transformers."""
        path = self.folder / "chat_template.jinja"
        if path.exists():
            content = read_regular(path, MAX_CONFIG_BYTES, ModelDamagedError)
            try:
                return content.decode()
            except UnicodeDecodeError as error:
                raise ModelDamagedError(f"{path}: not UTF-8: {error}") from error
        if isinstance(self._tokenizer_config.get("chat_template"), list):
            templates = self._tokenizer_config.sections("chat_template")
            named = {entry.maybe_text("name"): entry.maybe_text("template") for entry in templates}
            return named.get("default")
        return self._tokenizer_config.maybe_text("chat_template")

    def _licence(self) -> str | None:
        """From the front matter of the model card."""
        card = self._outer / "README.md"
        if not card.is_file():
            return None
        text = read_regular(card, MAX_CONFIG_BYTES, ModelDamagedError).decode("utf-8", errors="replace")
        found = re.match(r"---\n.*?^license:\s*(\S+)", text, re.DOTALL | re.MULTILINE)
        return found.group(1) if found else None


def _is_same(first: SourceTensor, second: SourceTensor) -> bool:
    """Whether two tensors hold the same values; one after the other is in memory, for they may be large."""
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    digests = [hashlib.sha256(tensor.read().data).digest() for tensor in (first, second)]
    return digests[0] == digests[1]


def _weight_paths(folder: Path) -> list[Path]:
    """The weights, safetensors before pickles, an index before single files."""
    for name in (
        "model.safetensors.index.json",
        "model.safetensors",
        "pytorch_model.bin.index.json",
        "pytorch_model.bin",
    ):
        path = folder / name
        if path.exists():
            return shards_of(path) if name.endswith(".index.json") else [path]
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others
    raise ModelNotFoundError(
        f"{folder}: no weights; expected model.safetensors, its shards with an index, or pytorch_model.bin"
    )
