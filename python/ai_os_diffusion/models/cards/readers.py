"""Where the card is that lets an encoder read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ai_os_diffusion.models.cards.card import Card
from ai_os_diffusion.models.cards.description import READER
from ai_os_diffusion.models.registry import SHIPPED
from ai_os_diffusion.utils.errors import CardError

__all__ = ["NO_READER", "find_reader"]

NO_READER = "none"
"""In place of a card: do without."""

_IN_MODEL_FOLDER = "reader.parquet"
_SHIPPED = "*-reader.parquet"


def find_reader(given: str | None, model: Path, weights_sha256: str | None) -> Card | None:
    """The card to read with: the one that is given, that of the model's folder, or a shipped one of its base.

    Args:
        given: file of a card; `NO_READER` for none; None to look for it.
        model: folder of the encoder.
        weights_sha256: digest of the weights that the encoder was converted from, by which a card names its
            base.

    Returns:
        The card; None when there is none.

    Raises:
        ModelNotFoundError: there is no such file.
        CardError: the card that is given does not read.
    """
    if given == NO_READER:
        return None
    if given is not None:
        card = Card(Path(given).expanduser())
        if card.description.kind != READER:
            raise CardError(
                f"{card.path}: is a card of kind {card.description.kind!r}, expected one of kind {READER!r}"
            )
        return card
    for file in _files(model):
        card = Card(file)
        about = card.description
        if about.kind == READER and about.base.weights_sha256 == weights_sha256:
            return card
    return None


def _files(model: Path) -> Iterator[Path]:
    own = model / _IN_MODEL_FOLDER
    if own.is_file():
        yield own
    yield from sorted(SHIPPED.glob(_SHIPPED))
