import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.presets import STUDIES
from fieldmark.core.recipe import load_recipe
from fieldmark.studies.plan import differences
from fieldmark.studies.study_file import load_study

LADDER = """# mine: what helps
base: {extends: default, train.epochs: 3}
base_name: plain
seeds: [0, 4]
ladder:
  no flip: {augment.flip: 0.0}
  no smoothing: {loss: {label_smoothing: 0.0}}
  sgd: {optim: sgd}
"""


def write(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder, text, *overrides, **options):
    with pytest.raises(InputError) as caught:
        load_study(write(folder, text), overrides, **options)
    return caught.value.problems


def test_ladder_adds_each_change_to_those_before(tmp_path):
    study = load_study(write(tmp_path, LADDER), ["data.size=64"])
    assert (study.name, study.title, study.arrangement, study.seeds) == ("mine", "what helps", "ladder", (0, 4))
    assert [rung.name for rung in study.rungs] == ["plain", "no flip", "no smoothing", "sgd"]
    assert [rung.before for rung in study.rungs] == [None, "plain", "no flip", "no smoothing"]
    settings = ["train.epochs=3", "data.size=64", "augment.flip=0.0", "loss.label_smoothing=0.0", "optim=sgd"]
    for recipe, count in zip(study.recipes, (2, 3, 4, 5), strict=True):
        assert recipe == load_recipe("default", settings[:count])
    assert study.rungs[2].settings == {"loss.label_smoothing": 0.0}


def test_independent_changes_are_each_on_the_base(tmp_path):
    study = load_study(write(tmp_path, LADDER.replace("ladder:", "independent:")), seeds=2)
    assert study.seeds == (0, 1)
    assert [rung.before for rung in study.rungs] == [None] * 4
    assert study.recipes[2] == load_recipe("default", ["train.epochs=3", "loss.label_smoothing=0.0"])


def test_grid_has_all_combinations_and_the_first_is_the_base(tmp_path):
    text = """
grid:
  augment.flip: [0.5, 0.0]
  data.crop: [none, box]
  optimiser:
    as it is:
    sgd: {optim.name: sgd, optim.lr: 0.05}
"""
    study = load_study(write(tmp_path, text.replace("data.crop:", "data.crop.name:")))
    assert len(study.rungs) == 8 and study.arrangement == "grid"
    assert study.rungs[0].name == "flip 0.5, name none, as it is"
    assert study.rungs[-1].options == {"augment.flip": "flip 0.0", "data.crop.name": "name box", "optimiser": "sgd"}
    assert study.recipes[0] == load_recipe("default")
    assert study.recipes[-1] == load_recipe("default", ["augment.flip=0", "data.crop=box", "optim=sgd", "optim.lr=0.05"])


def test_file_without_changes_has_one_recipe(tmp_path):
    study = load_study(write(tmp_path, "seeds: 8\n"))
    assert len(study.rungs) == 1 and study.seeds == tuple(range(8)) and study.title == ""


def test_base_may_extend_a_file_beside_the_study(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: default\ndata.size: 48\n", encoding="utf-8")
    study = load_study(write(tmp_path, "base: own.yaml\n"))
    assert study.recipes[0].data.size == 48
    study = load_study(write(tmp_path, "base: {extends: ./own.yaml, train.batch: 5}\n"))
    assert (study.recipes[0].data.size, study.recipes[0].train.batch) == (48, 5)


def test_override_changes_the_base_and_a_rung_wins_over_it(tmp_path):
    study = load_study(write(tmp_path, "independent: {long: {train.epochs: 9}}\n"), ["train.epochs=2"])
    assert [recipe.train.epochs for recipe in study.recipes] == [2, 9]


def test_all_problems_come_at_once_with_their_lines(tmp_path):
    found = problems(
        tmp_path,
        """seedz: 3
seeds: 0
independent:
  typo: {augment.filp: 0.5}
  nothing: {augment.flip: 0.5}
  Typo: {augment.flip: 0.1}
  "!!": {augment.flip: 0.2}
  words: yes please
  own seed: {train.seed: 3, augment.flip: 0.3}
""",
        "train.epochs=many",
    )
    text = "\n".join(found)
    for wanted in (
        "seedz: a study has no such key; did you mean seeds? (",
        "mine.yaml, line 1)",
        "seeds: expected how many, or a list of whole numbers, got 0",
        "augment.filp: there is no such key; did you mean augment.flip",
        "mine.yaml, line 4)",
        "'Typo': too much like 'typo'; both would be typo on disk",
        "'!!': a name needs a letter or a digit",
        "independent: words: expected settings such as",
        'train.epochs: expected a whole number, got "many" (command line)',
    ):
        assert wanted in text
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("independent: {same: {augment.flip: 0.5}}", "'same' changes nothing: it is the recipe of 'base'"),
        ("ladder: {a: {augment.flip: 0}, back: {augment.flip: 0.5}}", "'back' changes nothing: it is the recipe of 'base'"),
        ("independent: {seed: {train.seed: 3, augment.flip: 0}}", "'seed': train.seed is what `seeds` is for"),
        ("ladder: {a: {augment.flip: 0}}\ngrid: {augment.flip: [0, 1]}", "ladder and grid: a study has one of them"),
        ("grid: {}", "grid: expected factors with options"),
        ("grid: {augment.filp: [0, 1]}", "grid: augment.filp: a list of values belongs to a recipe key"),
        ("grid: {augment.flip: 3}", "grid: augment.flip: expected a list of values or named changes, got 3"),
        ("base_name: x\ngrid: {augment.flip: [0, 1]}", "base_name: a grid's base is its first cell"),
        ("base: 3", "base: expected a recipe's name or a mapping, got 3"),
        ("ladder: [a]", "ladder: expected names with the settings of each"),
        (
            "ladder: {split: {data.val_fraction: 0.2}}",
            "'split': data.val_fraction: all rungs of a study have the same splits; set it in the base",
        ),
        ("base: {extends: default, train.seed: 3}", "train.seed: the seeds of a study are its `seeds`"),
        ("seeds: [1, 1]", "seeds: [1, 1] names a seed twice"),
        ("seeds: [1, true]", "seeds: expected how many"),
        ("independent: {dup: {augment.flip: 0, augment: {flip: 1}}}", "augment.flip is given twice"),
    ],
)
def test_problem(tmp_path, text, wanted):
    assert any(wanted in problem for problem in problems(tmp_path, text))


def test_files_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study(write(tmp_path, "seeds: 1\n"), ["model.weights=w.safetensors", "data.taxonomy=t.csv"])
    assert study.recipes[0].model.weights == str(tmp_path / "w.safetensors")
    assert study.recipes[0].data.taxonomy == str(tmp_path / "t.csv")


def test_huge_grid_is_refused_before_it_is_built(tmp_path):
    factors = "\n".join(f"  f{i}: {{a: {{augment.flip: 0.{i}}}, b: {{}}, c: {{}}, d: {{}}}}" for i in range(1, 20))
    assert any("cells, and 1,000 are the most" in problem for problem in problems(tmp_path, f"grid:\n{factors}\n"))


def test_unknown_study_names_those_that_there_are():
    with pytest.raises(InputError, match="no study named 'noise-flor'; did you mean noise-floor"):
        load_study("noise-flor")


@pytest.mark.parametrize("name", STUDIES.names())
def test_studies_that_come_with_fieldmark_are_sound(name):
    assert STUDIES.text(name).startswith(f"# {name}: ")
    study = load_study(name)
    assert study.title and study.seeds
    assert all(differences(one, other) for one in study.recipes for other in study.recipes if one is not other)
