"""The drawn tree of errors is the real one, and the extension's classes are in it."""

from __future__ import annotations

import re

from ai_os_diffusion.utils import errors


def test_the_drawing_matches_the_classes():
    drawn = re.findall(r"^[│├└─ ]*?([A-Z]\w*(?:Error|$))", errors.__doc__ or "", flags=re.MULTILINE)
    assert sorted(set(drawn)) == sorted(errors.__all__)


def test_every_error_is_caught_by_the_base():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.DiffusionError)


def test_value_errors_are_value_errors():
    for cls in (errors.ConfigurationError, errors.ShapeError, errors.DimensionError):
        assert issubclass(cls, ValueError)
