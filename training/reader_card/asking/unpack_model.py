"""A GGUF file of Qwen2 as a folder that is loaded at once: `unpack_model.py MODEL.gguf FOLDER`.

FOLDER gets `weights.safetensors` (bfloat16, under GGUF's names), `tokenizer.json` and `settings.json`.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

__all__ = ["unpack"]

# How the model's own tokenizer splits text before it merges bytes.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_of(tokens: list[str], merges: list[str]) -> Tokenizer:
    """The tokenizer. Control tokens are ordinary entries that no text is split to."""
    made = Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(tokens)},
            [tuple(pair.split(" ")) for pair in merges],
        )
    )
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return made


def unpack(path: Path, folder: Path) -> None:
    """Read a GGUF file and write what is loaded.

    Args:
        path: of the file.
        folder: is made.

    Raises:
        ValueError: the file holds another architecture.
    """
    reader = GGUFReader(path)
    about = {name: field.contents() for name, field in reader.fields.items() if name.startswith("qwen2.")}
    if not about:
        told = reader.fields["general.architecture"].contents()
        raise ValueError(f"{path}: expected a model of architecture qwen2, got {told}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(about, indent=1))
    fields = reader.fields
    tokens, merges = (fields[f"tokenizer.ggml.{part}"].contents() for part in ("tokens", "merges"))
    tokenizer_of(tokens, merges).save(str(folder / "tokenizer.json"))

    def values(tensor) -> torch.Tensor:
        return torch.tensor(dequantize(tensor.data, tensor.tensor_type)).to(torch.bfloat16)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(values, reader.tensors))
    named = {tensor.name: one for tensor, one in zip(reader.tensors, found, strict=True)}
    save_file(named, folder / "weights.safetensors")


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
