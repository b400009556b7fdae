"""Losses as a picture of the kind that its name asks for."""

from __future__ import annotations

import pytest

from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.loss_picture import check_picture, draw_losses

RECORDS = [{"tokens": 10 * n, "loss": 3.0 / n} for n in range(1, 9)] + [
    {"tokens": 80, "validation_loss": 1.0}
]


@pytest.mark.parametrize(
    ("name", "begins", "holds"),
    [
        ("a.svg", b"<?xml", b"validation"),
        ("a.PNG", b"\x89PNG", b"IHDR"),
        ("a.html", b"<!doctype html>", b"training"),
    ],
)
def test_each_ending(tmp_path, name, begins, holds):
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    check_picture(path)
    draw_losses(RECORDS, path)
    drawn = path.read_bytes()
    assert drawn.startswith(begins)
    assert holds in drawn
    draw_losses(RECORDS, path)
    assert path.read_bytes() == drawn, "the same losses, the same bytes"


def test_what_cannot_be_drawn_is_refused_before(tmp_path, monkeypatch):
    for name in ("a.pdf", "a"):
        with pytest.raises(TrainingError, match=r"\.svg, \.png, \.html"):
            check_picture(tmp_path / name)
    with pytest.raises(TrainingError, match="the folder"):
        check_picture(tmp_path / "none" / "a.svg")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="pip install 'matplotlib"):
        check_picture(tmp_path / "a.svg")
