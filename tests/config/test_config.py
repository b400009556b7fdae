"""Settings come from the right place and refuse what they cannot be."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from ai_os_diffusion.config import Config, StorageConfig, describe_config, load_config, misspelt_variables
from ai_os_diffusion.utils.errors import ConfigurationError


@pytest.fixture(autouse=True)
def clean_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    for setting in describe_config():
        monkeypatch.delenv(setting.variable, raising=False)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_precedence_is_override_environment_project_user_default(tmp_path):
    user = write(
        tmp_path / "xdg/aios/config.yaml", "retrieval: {top_k: 2, chunk_tokens: 64}\nmodel: {encoder: a}"
    )
    write(tmp_path / "aios.yaml", "retrieval: {top_k: 3}\nmodel: {encoder: b}")
    environ = {"AIOS_RETRIEVAL_TOP_K": "4"}
    config = load_config(environ=environ, overrides={"retrieval.top_k": 9, "model.decoder": None})
    assert config.retrieval.top_k == 9
    assert load_config(environ=environ).retrieval.top_k == 4
    assert load_config(environ={}).retrieval.top_k == 3
    assert load_config(environ={}).model.encoder == "b"
    assert load_config(environ={}).retrieval.chunk_tokens == 64
    user.unlink()
    assert load_config(environ={}).retrieval.chunk_tokens == Config().retrieval.chunk_tokens


def test_every_setting_is_documented_and_reachable_from_the_environment():
    rows = describe_config()
    assert {"models_dir", "storage.path", "model.encoder"} <= {name for name, *_ in rows}
    for name, variable, default, doc, _ in rows:
        assert doc.endswith("."), name
        if default is not None:
            config = load_config(environ={variable: str(default)})
            section, _, leaf = name.rpartition(".")
            assert getattr(getattr(config, section) if section else config, leaf) == default


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"retrieval.top_k": 0}, "from 1 to 1000, got 0"),
        ({"retrieval.top_k": "many"}, "expected int, got 'many'"),
        ({"retrieval.top_k": 2.5}, "expected int, got 2.5"),
        ({"retrieval.top_k": True}, "expected int, got True"),
        ({"retrieval.min_similarity": "nan"}, "expected float, got 'nan'"),
        ({"retrieval.bm25_k1": -0.1}, "a number from 0 to 100, got -0.1"),
        ({"retrieval.bm25_k1": "inf"}, "from 0 to 100, got inf"),
        ({"retrieval.bm25_b": 1.5}, "a number from 0 to 1, got 1.5"),
        ({"retrieval.bm25_b": "much"}, "expected float, got 'much'"),
        ({"storage.durability": "maybe"}, "commit, batch, none, got 'maybe'"),
        ({"storage.pth": "x"}, "did you mean `storage.path`"),
        ({"model.encoder": ""}, "expected a name"),
    ],
)
def test_bad_values_say_what_was_expected(values, said):
    with pytest.raises(ConfigurationError, match=said.replace("(", r"\(")):
        load_config(environ={}, overrides=values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- 1", "expected a mapping"),
        ("storage: 3", "expects a mapping"),
        ("nonsense: 3", "unknown setting `nonsense`"),
        ("retrieval: {top: 3}", "unknown setting `retrieval.top`"),
    ],
)
def test_bad_files_are_named(tmp_path, text, said):
    file = write(tmp_path / "own.yaml", text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_config(file, environ={})
    assert "own.yaml" in str(caught.value)


def test_a_bad_value_says_where_it_was_given(tmp_path):
    user = write(tmp_path / "xdg/aios/config.yaml", "retrieval: {top_k: x}")
    with pytest.raises(ConfigurationError) as caught:
        load_config(environ={})
    assert str(caught.value) == f"{user}: retrieval.top_k: expected int, got 'x'"
    write(tmp_path / "aios.yaml", "retrieval: {top_k: 0}")
    with pytest.raises(ConfigurationError, match=r"^aios\.yaml: retrieval\.top_k: expected a number from 1"):
        load_config(environ={})
    with pytest.raises(ConfigurationError, match=r"^AIOS_RETRIEVAL_TOP_K: expected int, got 'many'"):
        load_config(environ={"AIOS_RETRIEVAL_TOP_K": "many"})
    with pytest.raises(ConfigurationError, match=r"^setting `retrieval\.top_k`: expected int"):
        load_config(environ={}, overrides={"retrieval.top_k": "x"})
    with pytest.raises(ConfigurationError, match=r"^StorageConfig\.durability: expected one of"):
        StorageConfig(durability="maybe")


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("AIOS_STORAGE_PAHT", "AIOS_STORAGE_PATH"),
        ("AIOS_STORAGE_FOLDER", "AIOS_STORAGE_PATH"),
        ("AIOS_MODEL_DIR", "AIOS_MODELS_DIR"),
        ("AIOS_RETREIVAL_TOP_K", "AIOS_RETRIEVAL_TOP_K"),
        ("AIOS_DATA", None),
        ("AIOS_ISA", None),
        ("AIOS_DEBUG", None),
        ("AIOS_STORAGE_PATH", None),
        ("PATH", None),
    ],
)
def test_misspelt_variables_are_found_and_foreign_ones_left_alone(variable, near, caplog, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.config.config._warned", set())
    assert misspelt_variables({variable: "x"}) == ([] if near is None else [(variable, near)])
    for _ in range(2):
        load_config(environ={variable: "x"})
    assert [near in record.message for record in caplog.records] == ([] if near is None else [True])


def test_the_reference_page_is_current():
    script = Path(__file__).parents[2] / "scripts" / "settings_page.py"
    names = runpy.run_path(str(script))
    assert names["PAGE"].read_text(encoding="utf-8") == names["render"](), f"run: python {script}"


def test_a_missing_file_is_an_error_only_when_asked_for(tmp_path):
    load_config(environ={})
    with pytest.raises(ConfigurationError, match="not found"):
        load_config(tmp_path / "none.yaml", environ={})


def test_foreign_variables_are_left_alone():
    assert load_config(environ={"AIOS_DATA": "/somewhere", "AIOS_ISA": "scalar"}) == Config()


def test_paths_expand_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert StorageConfig(path="~/memories").path == Path("/home/someone/memories")
