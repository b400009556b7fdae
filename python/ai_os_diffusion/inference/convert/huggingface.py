"""A Hugging Face or sentence-transformers folder: configuration, tokenizer, and weights in either format."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.inference.convert.architecture import canonical_name, metadata_from_config
from ai_os_diffusion.inference.convert.pytorch_bin import read_pytorch
from ai_os_diffusion.inference.convert.safetensors import read_safetensors, shards_of
from ai_os_diffusion.inference.convert.source import Description, SourceTensor
from ai_os_diffusion.utils.clean_name import is_clean_path
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, ModelNotFoundError, WeightError

__all__ = ["HuggingFaceFolder"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}


class HuggingFaceFolder:
    """A folder with `config.json`, a tokenizer and weights."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of the weights.

        Raises:
            ModelLoadError: a file is missing or says something that cannot be run.
            WeightError: the weights are damaged.
        """
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise ModelNotFoundError(f"{folder}: no config.json; expected a Hugging Face model folder")
        self._config = _json(folder / "config.json")
        self._metadata = metadata_from_config(self._config)
        self.weight_paths = _weight_paths(folder)
        self.tensors, self.dropped = self._read_tensors()

    @property
    def paths(self) -> Sequence[Path]:
        """The files read, for their checksums."""
        names = ("config.json", *_TOKENIZER_FILES)
        return [*self.weight_paths, *(path for name in names if (path := self.folder / name).is_file())]

    def _read_tensors(self) -> tuple[list[SourceTensor], list[str]]:
        architecture, tensors, dropped = self._metadata["architecture"], {}, []
        for path in self.weight_paths:
            read = read_safetensors if path.suffix == ".safetensors" else read_pytorch
            for tensor in read(path):
                name = canonical_name(architecture, tensor.name)
                if name is None or (name == "lm_head.weight" and self._metadata["tied_embeddings"]):
                    dropped.append(tensor.name)
                elif name in tensors:
                    raise WeightError(f"{path}: tensor {tensor.name!r} occurs twice as {name!r}")
                else:
                    tensors[name] = dataclasses.replace(tensor, name=name)
        return list(tensors.values()), dropped

    def describe(self) -> Description:
        """Read configuration, pooling, prompts, tokenizer and licence."""
        metadata = dict(self._metadata)
        files = {
            name: (self.folder / name).read_bytes()
            for name in _TOKENIZER_FILES
            if (self.folder / name).is_file()
        }
        if "tokenizer.json" not in files:
            raise ModelNotFoundError(
                f"{self.folder}: no tokenizer.json; save it with transformers' "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        metadata.update(self._sentence_settings(metadata))
        metadata.update(self._generation_settings())
        licence = self._licence()
        if licence:
            metadata["source"] = {"license": licence}
        return Description(metadata, files)

    def _sentence_settings(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Pooling, normalisation, window and prompts of a sentence-transformers model."""
        settings: dict[str, Any] = {}
        modules = _json(self.folder / "modules.json", default=[])
        types = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
        if modules:
            settings["normalize"] = "Normalize" in types
            unknown = set(types) - {"Transformer", "Pooling", "Normalize"}
            if unknown:
                raise ModelLoadError(
                    f"{self.folder}/modules.json: cannot run the module {', '.join(sorted(unknown))}"
                )
        for module in modules:
            if str(module.get("type", "")).endswith(".Pooling"):
                path = module.get("path", "")
                if path and not is_clean_path(path):
                    raise ModelLoadError(
                        f"{self.folder}/modules.json: expected the name of a folder, got {str(path)[:200]!r}"
                    )
                pooling = _json(self.folder / path / "config.json")
                modes = [mode for key, mode in _POOLING_MODES.items() if pooling.get(key)]
                if len(modes) != 1:
                    raise ModelLoadError(
                        f"{self.folder}: pooling {pooling}; expected one of mean, cls, last token"
                    )
                settings["pooling"] = modes[0]
        window = _json(self.folder / "sentence_bert_config.json", default={}).get("max_seq_length")
        if window:
            settings["max_seq_length"] = min(int(window), metadata["max_position_embeddings"])
        prompts = _json(self.folder / "config_sentence_transformers.json", default={}).get("prompts") or {}
        settings["prompts"] = {
            "query": prompts.get("query", ""),
            "document": prompts.get("document", prompts.get("passage", "")),
        }
        return settings

    def _generation_settings(self) -> dict[str, Any]:
        """Stop tokens, chat template and mask token."""
        settings: dict[str, Any] = {}
        eos = _json(self.folder / "generation_config.json", default={}).get("eos_token_id")
        if eos is not None:
            settings["eos_token_ids"] = eos if isinstance(eos, list) else [eos]
        tokenizer = _json(self.folder / "tokenizer_config.json", default={})
        template = tokenizer.get("chat_template")
        if isinstance(template, list):
            named = {entry.get("name"): entry.get("template") for entry in template}
            template = named.get("default")
        if (self.folder / "chat_template.jinja").is_file():
            template = (self.folder / "chat_template.jinja").read_text(encoding="utf-8")
        settings["chat_template"] = template
        added = _json(self.folder / "tokenizer.json").get("added_tokens") or []
        ids = {token.get("content"): token.get("id") for token in added}
        mask = tokenizer.get("mask_token")
        settings["mask_token_id"] = ids.get(mask.get("content") if isinstance(mask, dict) else mask)
        return settings

    def _licence(self) -> str | None:
        """From the front matter of the model card."""
        card = self.folder / "README.md"
        if not card.is_file():
            return None
        found = re.match(
            r"---\n.*?^license:\s*(\S+)", card.read_text("utf-8", errors="replace"), re.DOTALL | re.MULTILINE
        )
        return found.group(1) if found else None


def _weight_paths(folder: Path) -> list[Path]:
    """The weights, safetensors before pickles, an index before single files."""
    for name in (
        "model.safetensors.index.json",
        "model.safetensors",
        "pytorch_model.bin.index.json",
        "pytorch_model.bin",
    ):
        path = folder / name
        if path.is_file():
            return shards_of(path) if name.endswith(".index.json") else [path]
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others
    raise ModelNotFoundError(
        f"{folder}: no weights; expected model.safetensors, its shards with an index, or pytorch_model.bin"
    )


def _json(path: Path, default: Any = None) -> Any:
    """Parse a JSON file whose outermost value is of the default's type, an object without one."""
    if default is not None and not path.is_file():
        return default
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, FileNotFoundError) as error:
        raise ModelDamagedError(f"{path}: cannot be read as JSON: {error}") from error
    expected = list if isinstance(default, list) else dict
    if not isinstance(value, expected):
        raise ModelDamagedError(f"{path}: expected a JSON {expected.__name__}, got {type(value).__name__}")
    return value
