"""The loss of a batch, beside the same by plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from ai_os_diffusion.training.reader.recipe import LossSettings  # noqa: E402
from ai_os_diffusion.training.reader.torch.loss import reader_losses  # noqa: E402


def logs(values) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values - np.log(np.exp(values).sum())


def batch_of(taught=None) -> dict:
    """Two questions: one answered in its first window, one in none; a window is missing."""
    places = np.array([[[0, 1, 2, -1], [3, 4, -1, -1]], [[5, 6, 7, 8], [-1, -1, -1, -1]]])
    made = {
        "places": places,
        "start": np.array([[1, 0], [0, -1]]),
        "end": np.array([[2, 0], [0, -1]]),
        "relevant": np.array([[1.0, 0.0], [0.0, -1.0]], np.float32),
    }
    if taught is not None:
        made["taught"], made["taught_relevance"] = taught
    return {name: torch.from_numpy(value) for name, value in made.items()}


def test_the_parts_are_what_they_say():
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
    settings = LossSettings(negative=0.5, shared=0.25, listed=2.0, relevance=0.3)
    found = {name: value.item() for name, value in reader_losses(scores, batch_of(), settings).items()}
    s = scores.double().numpy()
    spans = (
        -(
            logs(s[:3, 0])[1]
            + logs(s[:3, 1])[2]
            + 0.5 * (logs(s[3:5, 0])[0] + logs(s[3:5, 1])[0] + logs(s[5:9, 0])[0] + logs(s[5:9, 1])[0])
        )
        / 2
    )
    shared = 0.0
    for axis, right in ((0, 1), (1, 2)):
        first = [0.0, *(s[1:3, axis] - s[0, axis]), *(s[4:5, axis] - s[3, axis])]
        second = [0.0, *(s[6:9, axis] - s[5, axis])]
        shared -= (logs(first)[right] + 0.5 * logs(second)[0]) / 2
    relevance = s[[0, 3, 5], 2]
    binary = (
        -sum(np.log(1 / (1 + np.exp(-one * sign))) for one, sign in zip(relevance, (1, -1, -1), strict=True))
        / 2
    )
    assert found["spans"] == pytest.approx(spans, rel=1e-5)
    assert found["shared"] == pytest.approx(0.25 * shared, rel=1e-5)
    assert found["listed"] == pytest.approx(-2.0 * logs(relevance[:2])[0] / 2, rel=1e-5)
    assert found["relevance"] == pytest.approx(0.3 * binary, rel=1e-5)


def test_a_card_that_says_what_its_teacher_says_has_nothing_to_learn_from_it():
    scores = torch.from_numpy(
        np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    ).requires_grad_()
    batch = batch_of()
    places = batch["places"].clamp(min=0)
    taught = scores.detach()[places][..., :2].numpy(), scores.detach()[places][:, :, 0, 2].numpy()
    settings = LossSettings(taught=1.0, relevance=0.0, temperature=2.0)
    losses = reader_losses(scores, batch_of(taught), settings)
    assert losses["taught_spans"].item() == pytest.approx(0, abs=1e-6)
    assert losses["taught_shared"].item() == pytest.approx(0, abs=1e-6)
    assert losses["taught_listed"].item() == pytest.approx(0, abs=1e-6)
    sum(losses.values()).backward()
    assert scores.grad.abs().max().item() < 1e-6
    other = taught[0] + np.array([1.0, 0.0, 0.0, 0.0], np.float32)[:, None]
    assert reader_losses(scores, batch_of((other, taught[1])), settings)["taught_spans"].item() > 1e-3
    turned = taught[0], taught[1][:, ::-1].copy()
    assert reader_losses(scores, batch_of(turned), settings)["taught_listed"].item() > 1e-3


def test_what_is_ignored_is_not_learned():
    scores = torch.zeros(9, 3, requires_grad=True)
    batch = batch_of()
    batch["start"].fill_(-1)
    batch["end"].fill_(-1)
    losses = reader_losses(scores, batch, LossSettings())
    assert losses["spans"].item() == losses["shared"].item() == 0
