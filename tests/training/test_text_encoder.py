"""The canvas of an example."""

from __future__ import annotations

import pytest

from ai_os_diffusion.training import Example, Piece
from ai_os_diffusion.training.settings import CardSettings
from ai_os_diffusion.training.text_encoder import TextEncoder

FORM = Example(
    "form",
    "notes",
    (
        Piece('{"a": "', written=False),
        Piece("some"),
        Piece('", "b": "', written=False),
        Piece(""),
        Piece('"}', written=False),
    ),
    room=8,
)


def encoder_of(folder, *, masks):
    settings = CardSettings(mask=258, null=257 if masks else None, end=(2,))
    return TextEncoder(folder, settings, masks=masks)


def test_a_masked_gap_is_filled_with_null(tiny_decoder_dir):
    encoder = encoder_of(tiny_decoder_dir, masks=True)
    ids, written = encoder.canvas(FORM, 16)
    gaps = [i for i, is_written in zip(ids, written, strict=True) if is_written]
    assert gaps == [*encoder.encode("some"), *[257] * 4, *[257] * 8]


@pytest.mark.parametrize("text", ["some", ""])
def test_left_to_right_it_is_learned_where_a_gap_ends(tiny_decoder_dir, text):
    """What stands behind a gap is given where gaps are masked, and the only end of it where they are not."""
    encoder = encoder_of(tiny_decoder_dir, masks=False)
    form = Example("form", "notes", (Piece("a(", written=False), Piece(text), Piece(") b", written=False)))
    ids, written = encoder.canvas(form, 16)
    before, gap, behind = (encoder.encode(part) if part else [] for part in ("a(", text, ") b"))
    assert ids[:-1] == [*before, *gap, *behind]
    expected = [False] * len(before) + [True] * (len(gap) + 1) + [False] * (len(behind) - 1)
    assert written[:-1] == expected
