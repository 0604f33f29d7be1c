import inspect
from pathlib import Path

import pytest

import fieldmark
from fieldmark import api
from fieldmark.core import arguments
from fieldmark.core.errors import InputError

SOURCES = "run runs bundle models sources images unknown boxes data path folders"
VALUES = "settings keys recipe severities columns metrics class_depth batch include parents cors allow_host"
OF_SEVERAL_KINDS = {*SOURCES.split(), *VALUES.split()}
"""Arguments that say themselves what they take."""
PUBLIC = [getattr(api, name) for name in fieldmark.__all__ if hasattr(api, name) and name not in fieldmark._ELSEWHERE]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda each: each.__name__)
def test_every_argument_of_the_api_has_a_kind(function):
    assert set(inspect.signature(function).parameters) <= set(arguments.accepted(function.__wrapped__)) | OF_SEVERAL_KINDS


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: fieldmark.train("birds", out=3), "out is a path, not 3 (int)"),
        (lambda: fieldmark.train("birds", quiet="yes"), "quiet is True or False, not 'yes' (str)"),
        (lambda: fieldmark.train(None), "DATA is the path of a folder or file, the word birds, or hf:owner/name, not None"),
        (lambda: fieldmark.train(["a", "b"]), "hf:owner/name, not a list"),
        (lambda: fieldmark.train("birds", 5), '5 (int) is no setting; it is a text such as "train.epochs=5" or a dictionary'),
        (lambda: fieldmark.train("birds", ["train.epochs=5"]), "a list is no setting"),
        (lambda: fieldmark.train("birds", epochs=5), "epochs: there is no such key; did you mean train.epochs?"),
        (lambda: fieldmark.train("birds", {"train.epochs": "many"}), "train.epochs: expected a whole number"),
        (lambda: fieldmark.train("birds", {"train.epochs": {1, 2}}), "a value that a recipe cannot hold"),
        (lambda: fieldmark.train("birds", "train.epochs=3", {"train": {"epochs": 4}}), "train.epochs is given twice"),
        (lambda: fieldmark.train("birds", recipe=7), "a recipe is a name that"),
        (lambda: fieldmark.evaluate(7), "a run is given as the path of its folder, or as a Run, not 7 (int)"),
        (lambda: fieldmark.resume(None), "as a Run, not None"),
        (lambda: fieldmark.report(["runs/a", "runs/b"]), "as a Run, not a list"),
        (lambda: fieldmark.ensemble(1, 2, out="x"), "as a Run, not 1 (int)"),
        (lambda: fieldmark.calibrate("x", accept="high"), "accept is a number, not 'high' (str)"),
        (lambda: fieldmark.evaluate_unknowns("x", 3), "there is no run folder x"),
        (lambda: fieldmark.run_study("noise-floor", 3, out="x"), "DATA is the path"),
        (lambda: fieldmark.run_study("noise-floor", "birds", out="x", seeds=True), "seeds is a whole number, not True (bool)"),
        (lambda: fieldmark.describe_dataset(3), "DATA is the path"),
        (lambda: fieldmark.list_fields(None), "prefix is text, not None"),
        (lambda: fieldmark.evaluate("x", crop="cat"), "crop is none, box or both, not 'cat' (str)"),
        (lambda: fieldmark.describe_dataset("x", several_objects="largst"), "not 'largst' (str); did you mean largest?"),
        (
            lambda: fieldmark.read_dataset("x", several_objects="biggest"),
            "several_objects is ask, largest or leave-out, not 'biggest' (str)",
        ),
        (lambda: fieldmark.calibrate("x", scaling="platt"), "scaling is temperature or vector, not 'platt' (str)"),
        (lambda: fieldmark.ensemble("x", "y", method="soups", out="z"), "did you mean soup?"),
        (lambda: fieldmark.submit("x", "y.csv", columns=3), "columns is text, not 3 (int)"),
        (lambda: fieldmark.explain("x", "y.png", out=""), "out is empty"),
        (lambda: fieldmark.train("birds", out="a\0b"), "out is a path, which cannot hold the character NUL: 'a\\x00b' (str)"),
        (lambda: fieldmark.train("birds", out="b/" + "a" * 300), "out has a name of 300 bytes, and file systems allow 255"),
        (lambda: fieldmark.Run.load("a" * 300), "the run has a name of 300 bytes, and file systems allow 255"),
        (lambda: fieldmark.Run.load(), "Run.load needs path"),
    ],
)
def test_what_cannot_be_used_is_an_input_error_that_names_it(call, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        call()
    assert wanted in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: fieldmark.evaluate("x", splt="val"), "evaluate takes no argument splt; did you mean split?"),
        (lambda: fieldmark.evaluate("x", zzz=1), "evaluate takes no argument zzz"),
        (lambda: fieldmark.explain("x", ["a.png"]), "explain needs out"),
        (lambda: fieldmark.train(), "train needs data"),
        (
            lambda: fieldmark.train("cars", data={"size": 64}),
            'train is given data twice; settings of the section data are given as {"data.size": 64}',
        ),
        (lambda: fieldmark.ensemble("x", "y"), "ensemble needs out"),
        (lambda: fieldmark.evaluate(), "evaluate needs run"),
        (lambda: fieldmark.evaluate("x", run="x"), "evaluate is given run twice"),
        (lambda: fieldmark.list_recipes("default", "demo"), "list_recipes takes at most 1 argument without a name, not 2"),
        (
            lambda: fieldmark.evaluate_corruptions("x", (1,), True, 4),
            "evaluate_corruptions takes at most 3 arguments without a name, not 4",
        ),
        (lambda: fieldmark.load_recipe("default", overides=[]), "load_recipe takes no argument overides; did you mean overrides?"),
        (lambda: fieldmark.read_dataset("x", colums={}), "read_dataset takes no argument colums; did you mean columns?"),
        (lambda: fieldmark.Run("runs/cars"), "Run.load(path) opens a run"),
    ],
)
def test_arguments_that_a_function_does_not_take_are_one_line(call, wanted):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == wanted


@pytest.mark.parametrize(
    ("given", "named", "wanted"),
    [
        (["x"], {"top": "3"}, "top is a whole number, not '3' (str)"),
        (["x"], {"top": 2.0}, "top is a whole number, not 2.0 (float)"),
        (["x"], {"top": None}, "top is a whole number, not None"),
        ([], {}, "Run.predict needs images"),
        (["x"], {"csv": "a.csv"}, "Run.predict takes no argument csv"),
        (["x", 5, None, 4], {}, "Run.predict takes at most 3 arguments without a name, not 4"),
    ],
)
def test_methods_of_a_run_check_their_arguments(given, named, wanted):
    with pytest.raises(InputError) as error:
        fieldmark.Run.predict(object.__new__(fieldmark.Run), *given, **named)
    assert str(error.value).split("\n")[0] == wanted


def test_a_function_that_does_not_exist_suggests_one():
    with pytest.raises(AttributeError, match="has no attribute 'evalaute'; did you mean evaluate"):
        fieldmark.evalaute  # noqa: B018


def test_settings_are_given_in_many_ways():
    recipes = [
        fieldmark.load_recipe("default", given)
        for given in (
            ["train.epochs=7", "optim.lr=0.03"],
            [{"train.epochs": 7, "optim.lr": 0.03}],
            [{"train": {"epochs": 7}, "optim": {"lr": 0.03}}],
            ["train.epochs=7", {"optim.lr": 0.03}],
            api._given((), {"train": {"epochs": 7}, "optim.lr": 0.03}),
            api._given((), {"settings": {"train.epochs": 7, "optim.lr": 0.03}}),
            api._given(("train.epochs=7",), {"settings": ["optim.lr=0.03"]}),
        )
    ]
    assert recipes[0].train.epochs == 7 and all(each == recipes[0] for each in recipes)


def test_a_recipe_may_be_given_itself():
    recipe = fieldmark.load_recipe("small-data", ["train.epochs=19"])
    assert fieldmark.load_recipe(recipe) == recipe
    assert fieldmark.load_recipe(recipe, [{"train.seed": 3}]).train.seed == 3
    assert fieldmark.load_recipe("default", [{"model.weights": Path("w.safetensors")}]).model.weights == "w.safetensors"


def test_a_study_records_settings_as_texts():
    from fieldmark.studies.study_file import load_study

    study = load_study("noise-floor", ["optim.lr=0.1", {"train": {"epochs": 3}, "augment.crop.area": (0.5, 1.0)}])
    assert study.settings == ("optim.lr=0.1", "train.epochs=3", "augment.crop.area=[0.5, 1.0]")
    assert load_study("noise-floor", study.settings).rungs == study.rungs
