"""The head of a Hugging Face model: none that matters here, one that writes, or one that scores texts."""

from __future__ import annotations

from typing import Any

from ai_os_diffusion.models.family import family_of
from ai_os_diffusion.models.untrusted_values import MAX_LAYERS, UntrustedValues, shown
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["head_of_config", "score_scale"]

_BARE_OR_WRITING = ("Model", "ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel")
"""How transformers calls networks whose head is none, or scores tokens."""

_SCORING = "ForSequenceClassification"
_SCALES = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
}
"""What sentence-transformers does with a score, by the names of torch."""


def head_of_config(config: UntrustedValues, architecture: str) -> dict[str, Any]:
    """The entries of `metadata.json` about a head for whole texts; none where there is no such head.

    Args:
        config: config.json.
        architecture: of the model.

    Raises:
        ModelLoadError: it classifies, tags or answers; the head is named.
    """
    for name in config.texts("architectures", high=MAX_LAYERS):
        if name.endswith(_SCORING) and family_of(architecture).classifier:
            return _scoring(config)
        if not name.endswith(_BARE_OR_WRITING):
            expected = ", ".join((*_BARE_OR_WRITING, _SCORING))
            raise ModelLoadError(
                f"{config.place}: architectures is {shown(name)}, expected a bare model, one that writes or "
                f"one that scores texts ({expected}): the results of another head are not computed here"
            )
    return {}


def score_scale(values: UntrustedValues, key: str) -> str:
    """What a score is, as `ModelMetadata.score_scale`.

    Raises:
        ModelLoadError: it is computed another way.
    """
    if values.text(key) not in _SCALES:
        raise values.refusal(key, f"one of {', '.join(_SCALES)}")
    return _SCALES[values.text(key)]


def _scoring(config: UntrustedValues) -> dict[str, Any]:
    labels = config.section("id2label").values
    # Transformers counts the labels, and takes two where there are none.
    count = len(labels) if labels else config.integer("num_labels", 2, low=0)
    if count != 1:
        raise ModelLoadError(
            f"{config.place}: {count} labels, expected 1, the relevance of a passage to a question: "
            "classes are not computed here"
        )
    pooling = config.text("classifier_pooling", "cls")
    if pooling not in ("cls", "mean"):
        raise config.refusal("classifier_pooling", "'cls' or 'mean'")
    scale, own = "sigmoid", config.section("sentence_transformers")
    for values, key in ((config, "sbert_ce_default_activation_function"), (own, "activation_fn")):
        if key in values:
            scale = score_scale(values, key)
    return {
        "num_labels": 1,
        "classifier_pooling": pooling,
        "score_scale": scale,
        # Its states are trained for the head, not to be compared.
        "pooling": None,
        "normalize": False,
    }
