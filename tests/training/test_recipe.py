"""A recipe says everything by name, and what it cannot mean is refused by name."""

from __future__ import annotations

import pytest

from ai_os_diffusion.training import Recipe
from ai_os_diffusion.utils.errors import ConfigurationError

WHOLE = {"base": "smollm2", "data": {"files": ["a.jsonl"]}, "optimizer": {"steps": 10}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bass": 1}, "key 'bass' is not known; did you mean 'base'"),
        ({"card": {"rang": 8}}, "card: key 'rang' is not known; did you mean 'rank'"),
        ({"base": None}, "base is missing"),
        ({"method": "half"}, "method is 'half', expected 'card' or 'full'"),
        ({"objective": "prefix"}, "expected 'diffusion' or 'causal' or 'both'"),
        ({"data": {}}, "data: expected either files or a program"),
        ({"data": {"files": ["a"], "program": "b.py:c"}}, "expected either files or a program"),
        ({"data": {"program": "b.py"}}, "program is 'b.py', expected FILE.py:NAME"),
        ({"optimizer": {}}, "expected either steps or seconds"),
        ({"optimizer": {"steps": 1, "seconds": 1.0}}, "expected either steps or seconds"),
        ({"optimizer": {"steps": 1, "betas": [0.9]}}, "betas is"),
        ({"card": {"bits": 3}}, "bits is 3, expected 8, 4, or 0"),
        ({"card": {"mask": True}}, "mask is True, expected the id of a token"),
        ({"card": {"question": "{question}"}}, "question is '{question}'"),
        ({"batch": {"length": 64, "longest": 65}}, "longest is 65, expected at most the length of a row, 64"),
        ({"noise": {"schedule": "square"}}, "schedule is 'square', expected 'linear' or"),
        ({"dtype": "float16"}, "dtype is 'float16', expected float32 or bfloat16"),
        ({"objective": "causal", "distill": {}}, "distill is of the objective 'diffusion'"),
        ({"objective": "causal", "report": {"infill": ["{}"]}}, "infill is filled by diffusion"),
        ({"method": "full", "start": "card.parquet"}, "'full' trains none"),
        ({"report": []}, "report is [], expected an object"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused_by_name(changes, message):
    with pytest.raises(ConfigurationError) as error:
        Recipe.of({**WHOLE, **changes}, "r.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("r.toml")


def test_a_file_is_read_and_lines_win_over_it(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('base = "smollm2"\n[data]\nfiles = ["rows.jsonl"]\n[optimizer]\nsteps = 10\n')
    recipe = Recipe.read(file, ["card.rank = 4", "optimizer.steps = 20"])
    assert recipe.data.files == (tmp_path / "rows.jsonl",)
    assert (recipe.card.rank, recipe.optimizer.steps, recipe.card.alpha) == (4, 20, 16.0)
    with pytest.raises(ConfigurationError, match="--set"):
        Recipe.read(file, ["card.rank="])
    file.write_text("base = ")
    with pytest.raises(ConfigurationError, match=r"own\.toml: no TOML"):
        Recipe.read(file)
    with pytest.raises(ConfigurationError, match="not found; expected a recipe"):
        Recipe.read(tmp_path / "none.toml")


def test_what_may_change_on_the_way_is_what_changes_nothing_that_is_learned():
    told = Recipe.of({**WHOLE, "report": {"save_every": 7}, "batch": {"workers": 3}})
    assert told.fixed == Recipe.of(WHOLE).fixed
    assert told.fixed != Recipe.of({**WHOLE, "seed": 1}).fixed
