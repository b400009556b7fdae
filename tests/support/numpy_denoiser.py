"""A denoiser that is a formula: its logits depend on every token of the text, and nothing is learned."""

from __future__ import annotations

import numpy as np

from ai_os_diffusion.diffusion.denoiser import Predictions

VOCAB, MASK, END = 40, 39, 38


def logits_of(ids, offset=0):
    """float64[length, VOCAB] of a whole text; `offset` makes another model of it."""
    ids = np.asarray(ids, np.int64)
    at, token = np.arange(len(ids))[:, None], np.arange(VOCAB)[None, :]
    # Sines of products of primes: no two equal, and each position hears of all others.
    seen = float(((ids + 1) * (np.arange(len(ids)) * 7 + 3)).sum() % 9973)
    logits = 3 * np.sin(1.7 * (at + 1) * (token + 2) + 0.31 * seen + offset)
    return logits + 2 * np.cos(0.9 * token * (ids[:, None] + 5))


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


class NumpyText:
    def __init__(self, ids, temperature, seed, top_k):
        self.ids, self.temperature, self.top_k = list(ids), temperature, top_k
        self.random = np.random.default_rng([seed, 1])

    def __len__(self):
        return len(self.ids)


class NumpyDenoiser:
    """Sees a whole text at every pass, and draws by its text's own generator."""

    mask_id, null_id, end_ids, leaves_end, window = MASK, None, frozenset([END]), True, 200

    def __init__(self):
        self.asked = []

    def read(self, asked):
        return [NumpyText(one.prompt, one.temperature, one.seed, one.top_k) for one in asked]

    def append(self, texts, blocks):
        for text, block in zip(texts, blocks, strict=True):
            text.ids += list(block)

    def predict(self, asked):
        self.asked.append(len(asked))
        return [self._predict(ask) for ask in asked]

    def _predict(self, ask):
        logits = logits_of([*ask.text.ids, *ask.ids])[len(ask.text) :][ask.rows]
        logits[:, MASK] = -np.inf
        for at, tokens in ask.allowed.items():
            kept = logits[at, tokens]
            logits[at] = -np.inf
            logits[at, tokens] = kept
        p = softmax(logits)
        if ask.text.temperature > 0:
            drawn = softmax(logits / ask.text.temperature).cumsum(-1)
            ids = (ask.text.random.random((len(p), 1)) > drawn).sum(-1).clip(0, VOCAB - 1)
        else:
            ids = logits.argmax(-1)
        top = np.argsort(-p, axis=-1, kind="stable")[:, : ask.text.top_k]
        return Predictions(
            ids.astype(np.int32),
            p[np.arange(len(p)), ids].astype(np.float32),
            -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(-1).astype(np.float32),
            top.astype(np.int32),
            np.take_along_axis(p, top, -1).astype(np.float32),
        )
