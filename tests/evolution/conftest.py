"""What the tests of learning share."""

from __future__ import annotations

import pytest

from ai_os_diffusion.inference import ArrowEngine


@pytest.fixture
def engine(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, num_threads=2) as engine:
        yield engine
