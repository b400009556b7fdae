"""Which version of a model stands for its name."""

from __future__ import annotations

import shutil

import pytest

from ai_os_diffusion.models.convert.folder import copy_model
from ai_os_diffusion.models.model_versions import ModelVersions
from ai_os_diffusion.runtime import open_runtime
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelNotFoundError


@pytest.fixture
def versions(tiny_decoder_dir, tmp_path):
    for name in ("tiny", "tiny.1", "tiny.2"):
        copy_model(tiny_decoder_dir, tmp_path / name, origin={"name": name})
    return ModelVersions(tmp_path)


def test_a_version_is_used_until_another_is(versions):
    assert versions.current("tiny") == "tiny"
    assert versions.names("tiny") == ["tiny"]
    assert versions.next("tiny") == "tiny.1"
    versions.add("tiny", "tiny.1")
    versions.add("tiny", "tiny.2")
    assert versions.names("tiny") == ["tiny", "tiny.1", "tiny.2"]
    assert versions.current("tiny") == "tiny.2"
    versions.use("tiny", "tiny.1")
    assert versions.current("tiny") == "tiny.1"
    versions.use("tiny", "tiny")
    assert versions.current("tiny") == "tiny"
    # What was made stays, and its name is not given again.
    assert versions.names("tiny") == ["tiny", "tiny.1", "tiny.2"]
    assert versions.next("tiny") == "tiny.3"
    assert versions.current("other") == "other"


def test_a_version_that_is_gone_is_not_used(versions, tmp_path):
    versions.add("tiny", "tiny.1")
    shutil.rmtree(tmp_path / "tiny.1")
    assert versions.current("tiny") == "tiny"
    assert versions.names("tiny") == ["tiny"]
    with pytest.raises(ModelNotFoundError, match=r"'tiny\.1' is no version of tiny; there are: tiny"):
        versions.use("tiny", "tiny.1")
    with pytest.raises(ModelNotFoundError, match="no version"):
        versions.use("tiny", "../tiny")
    versions.use("tiny", "tiny")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"tiny": 3}',
        b'{"tiny": {"versions": ["../x"], "current": "tiny"}}',
        b'{"tiny": {"versions": []}}',
    ],
)
def test_a_damaged_file_is_named(versions, tmp_path, content):
    (tmp_path / ".versions.json").write_bytes(content)
    with pytest.raises(ModelDamagedError, match=r"\.versions\.json"):
        versions.current("tiny")


def test_a_runtime_opens_the_version_that_is_used(versions, tmp_path):
    from ai_os_diffusion.config import load_config

    config = load_config(overrides={"models_dir": str(tmp_path), "model.decoder": "tiny"})
    versions.add("tiny", "tiny.1")
    with open_runtime(config) as runtime:
        assert runtime.decoder.folder.name == "tiny.1"
    versions.use("tiny", "tiny")
    with open_runtime(config) as runtime:
        assert runtime.decoder.folder.name == "tiny"
