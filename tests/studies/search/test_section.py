import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.layers import read_layer
from fieldmark.core.yaml_text import parse
from fieldmark.studies.search.section import Halving, read_search

SPACE = "space: {optim.lr: {from: 0.01, to: 1, log: true}}"


def read(text, epochs=30):
    layer = read_layer({"train.epochs": epochs, "optim.name": "sgd", "schedule.warmup_epochs": 0.5}, "base", [])
    return read_search(parse(text, "study.yaml"), [layer], "study.yaml")


def problems_of(text, **more):
    with pytest.raises(InputError) as caught:
        read(text, **more)
    return [str(problem) for problem in caught.value.problems]


def test_what_is_left_out_has_a_default():
    search = read(SPACE)
    assert (search.sampler, search.seed, search.halving) == ("tpe", 0, Halving(4, 3))
    assert (search.monitor, search.maximise) == ("top1", True)
    assert search.base.train.epochs == 30
    assert search.base is search.base


@pytest.mark.parametrize(
    ("given", "epochs", "expected"),
    [
        ("true", 9, Halving(1, 3)),
        ("true", 12, Halving(2, 3)),
        ("true", 2, Halving(1, 3)),
        ("false", 1, None),
        ("{min_epochs: 5}", 30, Halving(5, 3)),
        ("{factor: 4}", 32, Halving(2, 4)),
        ("{}", 30, Halving(4, 3)),
    ],
)
def test_halving(given, epochs, expected):
    assert read(f"{SPACE}\nhalving: {given}", epochs=epochs).halving == expected


def test_where_epochs_are_searched_over_the_shortest_trial_counts():
    text = "space: {train.epochs: {from: 9, to: 90}}"
    assert read(text).halving == Halving(1, 3)


def test_everything_wrong_is_said_at_once():
    text = "sampler: grid\nseed: -1\nhalvin: true\nhalving: {factor: 1, min_epoch: 2}\nspace: {optm.lr: [1, 2]}"
    assert problems_of(text) == [
        "search.halvin: there is no such key; did you mean halving?; it has sampler, seed, halving, space (study.yaml, line 3)",
        'search.sampler: expected one of tpe, random, got "grid" (study.yaml, line 1)',
        "search.seed: expected a whole number of at least 0, got -1 (study.yaml, line 2)",
        "optm.lr: there is no such key; did you mean optim.lr? (study.yaml, line 5)",
        "search.halving.factor: expected a whole number of at least 2, got 1 (study.yaml, line 4)",
        "search.halving.min_epoch: there is no such key; did you mean min_epochs?; it has min_epochs, factor (study.yaml, line 4)",
    ]


def test_a_search_without_a_space():
    assert problems_of("sampler: tpe") == [
        "search.space: expected recipe keys, each with a range such as {from: 1e-4, to: 1e-2, log: true}, or a list of choices, got null "
        "(study.yaml)"
    ]


def test_halving_that_would_never_stop_a_trial():
    (problem,) = problems_of(f"{SPACE}\nhalving: {{min_epochs: 30}}")
    assert problem.startswith("search.halving: no trial would be stopped before its end: the first decision is after epoch 30")
    assert len(problems_of(f"{SPACE}\nhalving: true", epochs=1)) == 1
    assert read(SPACE, epochs=1).halving is None
    assert "got 3" in problems_of(f"{SPACE}\nhalving: 3")[0]


def test_an_unknown_architecture():
    with pytest.raises(InputError, match="efficientnet_b00"):
        read("space: {model.name: [efficientnet_b0, efficientnet_b00]}")
