"""The models that benchmarks run: the pulled ones, their sources and other quantisations, made once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_os_diffusion.config import load_config
from ai_os_diffusion.models.hub.known_source import fetch_source
from ai_os_diffusion.models.local_models import pull

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "benchmarks"


def source_folder(name: str) -> Path:
    """The original files of a model, as the peers load them."""
    return fetch_source(name, CACHE / "sources" / name)


def converted(name: str, quantize: str | None) -> Path:
    """A model in our format; None keeps what suits it, as `aios pull` does."""
    return pull(name, quantize=quantize, models_dir=load_config().models_dir)


def card_file(given: Path, base: Path, folder: Path, about: Mapping[str, Any]) -> Path:
    """A card as it is, or converted from its safetensors file, or from the folder of that.

    Args:
        given: the card, its source, or the folder of that.
        base: the model that it belongs to.
        folder: where it is written.
        about: what it says of itself.
    """
    from ai_os_diffusion.models.cards import convert_card

    source = given / "card.safetensors" if given.is_dir() else given
    if source.suffix == ".parquet":
        return source
    return convert_card(source, folder / f"{about['kind']}.parquet", base=base, about=about).path


def is_given(card: Path | None, what: str) -> bool:
    """Whether a card is there; else it is said that one is needed, and that nothing is measured."""
    if card is not None and card.exists():
        return True
    program = Path(sys.argv[0])
    print(f"skipped: {program.name} needs a {what} as its argument")
    print(json.dumps({"benchmark": program.stem, "skipped": "no card"}))
    return False


def in_transformers(data: Any, arrays: Mapping[str, Any]) -> Any:
    """A Llama in transformers, in float32, with weights of ours.

    Args:
        data: the model's metadata.
        arrays: its weights by name, dequantised.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=data.vocab_size,
        hidden_size=data.hidden_size,
        intermediate_size=data.intermediate_size,
        num_hidden_layers=data.num_layers,
        num_attention_heads=data.num_heads,
        num_key_value_heads=data.num_kv_heads,
        head_dim=data.head_dim,
        max_position_embeddings=data.max_position_embeddings,
        rms_norm_eps=data.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": data.rope_theta},
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).float().eval()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing
    assert not unexpected, unexpected
    return model
