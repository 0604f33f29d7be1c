import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.presets import STUDIES
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.yaml_text import parse
from fieldmark.studies.plan import Published, StudyDataset, StudyPlan, differences
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
    return [str(problem) for problem in caught.value.problems]


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


BRANCHED = """base: {extends: default, train.epochs: 3}
base_name: plain
ladder:
  no flip: {augment.flip: 0.0}
  aside: {on: plain, augment.flip: 0.25}
  no smoothing: {loss.label_smoothing: 0.0}
  on aside: {on: aside, train.batch: 16}
  on top: {on: no smoothing, train.batch: 16}
  longer: {train.epochs: 4}
"""


def test_side_branches_of_a_ladder_are_on_the_rung_that_they_name(tmp_path):
    study = load_study(write(tmp_path, BRANCHED))
    assert [(rung.name, rung.before, rung.branch) for rung in study.rungs] == [
        ("plain", None, False),
        ("no flip", "plain", False),
        ("aside", "plain", True),
        ("no smoothing", "no flip", False),
        ("on aside", "aside", True),
        ("on top", "no smoothing", True),
        ("longer", "no smoothing", False),
    ]
    expected = [
        [],
        ["augment.flip=0"],
        ["augment.flip=0.25"],
        ["augment.flip=0", "loss.label_smoothing=0"],
        ["augment.flip=0.25", "train.batch=16"],
        ["augment.flip=0", "loss.label_smoothing=0", "train.batch=16"],
        ["augment.flip=0", "loss.label_smoothing=0", "train.epochs=4"],
    ]
    for recipe, settings in zip(study.recipes, expected, strict=True):
        epochs = [] if "train.epochs=4" in settings else ["train.epochs=3"]
        assert recipe == load_recipe("default", [*epochs, *settings])
    assert study.rungs[2].settings == {"on": "plain", "augment.flip": 0.25}


def test_rung_may_extend_a_recipe_which_the_command_line_changes_too(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: default\noptim: {name: sgd, lr: 0.3}\ntrain.epochs: 9\n", encoding="utf-8")
    text = """base: {extends: default, train.batch: 16}
independent:
  own: {extends: own.yaml, train.patience: 2}
  theirs: {extends: demo}
  no flip: {augment.flip: 0.0}
"""
    study = load_study(write(tmp_path, text), ["data.size=48"])
    base, own, theirs, no_flip = study.recipes
    assert base == load_recipe("default", ["train.batch=16", "data.size=48"])
    assert own == load_recipe(tmp_path / "own.yaml", ["train.patience=2", "data.size=48"])
    assert theirs == load_recipe("demo", ["data.size=48"])
    assert no_flip == load_recipe("default", ["train.batch=16", "data.size=48", "augment.flip=0"])
    assert study.rungs[1].settings == {"extends": "own.yaml", "train.patience": 2} and study.rungs[2].settings == {"extends": "demo"}
    assert [rung.before for rung in study.rungs] == [None] * 4
    wins = load_study(write(tmp_path, "independent: {own: {extends: own.yaml, train.epochs: 2}}"), ["train.epochs=7"])
    assert [recipe.train.epochs for recipe in wins.recipes] == [7, 2], "a rung wins over the command line"


QUICK = (
    BRANCHED
    + """seeds: [3, 4, 5]
quick:
  seeds: 1
  base: {data.size: 32, train.epochs: 2, train.batch: 8}
  rungs:
    no flip: {train.micro_batch: 4}
    longer: {train.epochs: 3}
    aside: {augment.flip: 0.75}
"""
)


def test_quick_form_is_beneath_the_command_line_and_on_top_of_a_rung(tmp_path):
    study = load_study(write(tmp_path, QUICK), ["train.batch=12"], quick=True)
    assert (study.quick, study.seeds) == (True, (0,))
    quick = ["data.size=32", "train.batch=12"]
    main = [*quick, "augment.flip=0", "train.micro_batch=4"]
    expected = [
        [*quick, "train.epochs=2"],
        [*main, "train.epochs=2"],
        [*quick, "train.epochs=2", "augment.flip=0.75"],
        [*main, "train.epochs=2", "loss.label_smoothing=0"],
        ["data.size=32", "train.epochs=2", "augment.flip=0.75", "train.batch=16"],
        ["data.size=32", "augment.flip=0", "train.micro_batch=4", "train.epochs=2", "loss.label_smoothing=0", "train.batch=16"],
        [*main, "loss.label_smoothing=0", "train.epochs=3"],
    ]
    assert list(study.recipes) == [load_recipe("default", settings) for settings in expected]
    assert study.rungs[2].settings == {"on": "plain", "augment.flip": 0.75}, "what the rung is, not what it is in the full study"
    assert load_study(write(tmp_path, QUICK), seeds=2, quick=True).seeds == (0, 1)
    full = load_study(write(tmp_path, QUICK))
    assert (full.quick, full.seeds, full.recipes) == (False, (3, 4, 5), load_study(write(tmp_path, BRANCHED)).recipes)


def test_quick_form_reaches_the_recipes_that_rungs_extend_and_the_base_by_its_name(tmp_path):
    text = "independent: {theirs: {extends: demo}}\nquick: {base: {train.epochs: 2}, rungs: {base: {train.batch: 4}}}\n"
    study = load_study(write(tmp_path, text), quick=True)
    assert study.recipes == (load_recipe("default", ["train.epochs=2", "train.batch=4"]), load_recipe("demo", ["train.epochs=2"]))
    assert study.seeds == (0, 1, 2), "as the study has them"


def test_quick_form_of_a_study_without_one(tmp_path):
    with pytest.raises(InputError, match=r"mine\.yaml has no section quick, which --quick needs") as caught:
        load_study(write(tmp_path, BRANCHED), quick=True)
    assert caught.value.hint is not None and "quick: {seeds: 1, base:" in caught.value.hint


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
        "seedz: a study has no such key; did you mean seeds?; it has base, base_name, seeds, ",
        "mine.yaml, line 1)",
        "seeds: expected a number of seeds or a list of whole numbers, got 0",
        "augment.filp: there is no such key; did you mean augment.flip",
        "mine.yaml, line 4)",
        "'Typo': too similar to 'typo': both are typo on disk",
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
        ("independent: {seed: {train.seed: 3, augment.flip: 0}}", "'seed': train.seed is set by `seeds`"),
        ("ladder: {a: {augment.flip: 0}}\ngrid: {augment.flip: [0, 1]}", "ladder and grid: a study has only one of these"),
        ("grid: {}", "grid: expected factors with options"),
        ("grid: {augment.filp: [0, 1]}", "grid: augment.filp: a list of values needs a recipe key"),
        ("grid: {augment.flip: 3}", "grid: augment.flip: expected a list of values or named changes, got 3"),
        ("base_name: x\ngrid: {augment.flip: [0, 1]}", "base_name: a grid's base is its first cell"),
        ("base: 3", "base: expected a recipe's name or a mapping, got 3"),
        ("ladder: [a]", "ladder: expected names with the settings of each"),
        (
            "ladder: {split: {data.val_fraction: 0.2}}",
            "'split': data.val_fraction: all rungs of a study must have the same splits; set it in the base",
        ),
        ("base: {extends: default, train.seed: 3}", "train.seed: a study sets the seeds in `seeds`"),
        ("seeds: [1, 1]", "seeds: [1, 1] lists a seed twice"),
        ("seeds: [1, true]", "seeds: expected a number of seeds"),
        ("independent: {dup: {augment.flip: 0, augment: {flip: 1}}}", "augment.flip is given twice"),
        (
            "ladder: {a: {augment.flip: 0}, b: {on: bace, data.size: 64}}",
            "ladder: b: on: there is no rung 'bace' above it; did you mean base?",
        ),
        ("ladder: {b: {on: a, data.size: 64}, a: {augment.flip: 0}}", "ladder: b: on: 'a' is not above it ("),
        ("ladder: {b: {on: b, data.size: 64}}", "ladder: b: on: 'b' is not above it ("),
        ("independent: {b: {on: base, data.size: 64}}", "independent: b: on: only a rung of `ladder` may be built on another"),
        ("ladder: {b: {extends: demo}}", "ladder: b: extends: only a rung of `independent` may extend a recipe"),
        ("grid: {f: {a: {}, b: {extends: demo}}}", "grid: f: b: extends: only a rung of `independent` may extend a recipe"),
        ("independent: {b: {extends: dmo}}", "independent: b: extends: there is no recipe named 'dmo'; did you mean demo?"),
        ("independent: {b: {extends: no.yaml}}", "independent: b: extends: there is no recipe file"),
        ("independent: {b: {extends: 3}}", "independent: b: extends: expected the name of a recipe or a file, got 3"),
        ("independent: {b: {extends: default}}", "'b' changes nothing: it is the recipe of 'base'"),
        (
            "independent: {b: {extends: cheap}}",
            "'b': data.splits, data.val_fraction, data.test_fraction: all rungs of a study must have the same",
        ),
        (
            "base: {optim.name: sgd}\nindependent: {b: {extends: default, optim.momentum: 0.5}}",
            "'b', which extends default: optim.momentum: adamw has no momentum",
        ),
        ("quick: {seed: 1}", "quick.seed: the section quick has no such key; did you mean seeds?"),
        ("quick: 3", "quick: expected seeds, base, rungs, got 3"),
        ("quick: {seeds: 0}", "quick.seeds: expected a number of seeds or a list of whole numbers, got 0"),
        ("quick: {base: 3}", "quick.base: expected settings such as {augment.flip: 0.5}, got 3"),
        ("quick: {base: {extends: demo}}", "quick.base: extends: only a rung of `independent` may extend a recipe"),
        ("quick: {rungs: [a]}", "quick.rungs: expected names with the settings of each"),
        ("quick:\n  rungs:\n    bace: {data.size: 32}", "quick.rungs: the study has no rung 'bace'; did you mean base? ("),
        ("quick: {rungs: {base: 3}}", "quick.rungs: base: expected settings such as"),
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
    assert any("cells, and at most 1,000 are allowed" in problem for problem in problems(tmp_path, f"grid:\n{factors}\n"))


def test_unknown_study_names_those_that_there_are():
    with pytest.raises(InputError, match="no study named 'noise-flor'; did you mean noise-floor"):
        load_study("noise-flor")


def test_problems_of_the_quick_form_name_their_lines(tmp_path):
    text = "quick:\n  base:\n    train.epocs: 1\n  rungs:\n    base: {train.seed: 3}\n    nobody: {}\n"
    with pytest.raises(InputError) as caught:
        load_study(write(tmp_path, text), quick=True)
    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == ["quick.rungs", "train.epocs"]
    assert [str(problem).rpartition(", ")[2] for problem in caught.value.problems] == ["line 6)", "line 3)"]
    with pytest.raises(InputError, match=r"'base': train\.seed is set by `seeds`"):
        load_study(write(tmp_path, "quick: {rungs: {base: {train.seed: 3}}}"), quick=True)
    with pytest.raises(InputError, match=r"train\.seed: a study sets the seeds in `seeds`"):
        load_study(write(tmp_path, "quick: {base: {train.seed: 3}}"), quick=True)


@pytest.mark.parametrize("name", STUDIES.names())
def test_studies_that_come_with_fieldmark_are_sound(name):
    assert STUDIES.text(name).startswith(f"# {name}: ")
    study = load_study(name)
    assert study.title and study.seeds
    assert all(differences(one, other) for one in study.recipes for other in study.recipes if one is not other)
    if "quick" in parse(STUDIES.text(name), name):
        quick = load_study(name, quick=True)
        assert quick.quick and [rung.name for rung in quick.rungs] == [rung.name for rung in study.rungs]


def test_metrics_and_published_figures_are_read_and_kept(tmp_path):
    text = LADDER + 'metrics: [top5, macro_f1]\npublished:\n  "A Paper, 2020": {plain: 88.2, no flip: 89}\n'
    study = load_study(write(tmp_path, text))
    assert study.metrics == ("top5", "macro_f1")
    assert study.published == (Published("A Paper, 2020", {"plain": 88.2, "no flip": 89.0}),)
    plan = StudyPlan(**vars(study), folder=tmp_path / "study", datasets=(StudyDataset("cars", "/cars"),))
    plan.save()
    assert (StudyPlan.load(plan.folder).metrics, StudyPlan.load(plan.folder).published) == (study.metrics, study.published)


@pytest.mark.parametrize(
    "section, said",
    [
        ("metrics: [top_5]", "metrics: there is no metric 'top_5'; did you mean top5?"),
        ("metrics: top5", "metrics: expected a list such as [top5, macro_f1]"),
        ("published: [88]", "published: expected sources with the figures of rungs"),
        ("published: {A: 88}", "published: A: expected figures such as {plain: 88.2}, got 88"),
        ("published: {A: {no flips: 88}}", "the study has no rung 'no flips'; did you mean no flip?"),
        ("published: {A: {plain: 880}}", "published: A: plain: expected per cent, got 880"),
        ("published: {A: {plain: high}}", "published: A: plain: expected per cent"),
    ],
)
def test_metrics_and_published_figures_that_cannot_be_used(tmp_path, section, said):
    assert any(said in problem for problem in problems(tmp_path, f"{LADDER}{section}\n"))


def test_the_published_systems_bring_their_figures():
    figures = {name: load_study(name).published[0].figures for name in ("birds-under-10m", "refinement-ladder", "competition-models")}
    assert figures["birds-under-10m"]["B2"] == 73.92 and len(figures["birds-under-10m"]) == 9
    assert list(figures["refinement-ladder"].values()) == [88.22, 89.21, 92.66, 93.22, 94.5, 94.93, 94.93]
    assert figures["competition-models"] == {"ResNeXt": 87.33, "ResNeXt_freeze": 86.0, "ResNeXt_ViT": 87.66}
