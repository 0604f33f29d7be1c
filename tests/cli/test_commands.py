"""Each command calls one function of the API, has its arguments and its help; Python can do what the command line can."""

import ast
import inspect
from pathlib import Path

import pytest
from cyclopts import App

import fieldmark
from fieldmark import api
from fieldmark.cli import app, commands
from fieldmark.cli.registration import DATA, DEPLOY, LOOK, START, STUDY, TRAIN, USE, examples_of, study

OF_THE_COMMAND_LINE = {"json", "quiet", "schema"}
OF_PYTHON = {"keys"}
OTHER_USES = {"enroll": {"list", "remove", "name", "out"}}
"""What a command takes for another use than its function's, and what it does not take there."""
TREE = ast.parse(Path(commands.__file__).read_text(encoding="utf-8"))
DEFINED = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
"""Name of the function behind each command -> its definition."""


def called(node: ast.AST) -> list[str]:
    """The API functions that are called in a piece of code."""
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return [call.attr for call in calls if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id == "api"]


def paths(statements: list[ast.stmt]) -> list[list[str]]:
    """What is called on each way through these statements, ending at a return."""
    ways: list[list[str]] = [[]]
    for index, statement in enumerate(statements):
        if isinstance(statement, ast.If):
            rest = statements[index + 1 :]
            branches = [[*branch, *([] if returns(branch) else rest)] for branch in (statement.body, statement.orelse)]
            return [[*way, *called(statement.test), *more] for way in ways for branch in branches for more in paths(branch)]
        ways = [[*way, *called(statement)] for way in ways]
    return ways


def returns(statements: list[ast.stmt]) -> bool:
    return bool(statements) and isinstance(statements[-1], ast.Return)


def help_from(name: str) -> str:
    """The API function whose docstring a command has."""
    (decorator,) = DEFINED[name].decorator_list
    return decorator.args[0].attr


def registered(group: App) -> set[str]:
    return {name for name in group if not name.startswith("-")}


def test_every_command_is_defined_here():
    assert len(DEFINED) == len(registered(app) - {"study"}) + len(registered(study))


@pytest.mark.parametrize("name", DEFINED)
def test_a_command_calls_one_function_of_the_api(name):
    ways = paths(DEFINED[name].body)
    assert all(len(way) == 1 for way in ways), ways
    assert [help_from(name)] in ways


@pytest.mark.parametrize("name", DEFINED)
def test_its_arguments_are_those_of_the_function(name):
    command, function = inspect.signature(getattr(commands, name)).parameters, inspect.signature(getattr(api, help_from(name))).parameters
    for each in set(command) - OF_THE_COMMAND_LINE - OTHER_USES.get(name, set()):
        if name == "layouts" and each == "data":  # without it, the layouts are listed
            continue
        wanted, given = command[each], function[each]
        none_given = wanted.kind is wanted.VAR_POSITIONAL and given.default == ()
        assert none_given or wanted.default == given.default or (name, each) == ("ensemble", "method"), each
    left_out = {each for each in set(function) - set(command) - OF_PYTHON if (name, each) != ("study_run", "settings")}
    assert left_out == ({"quiet"} if name == "layouts" else set())


@pytest.mark.parametrize("name", DEFINED)
def test_every_argument_is_explained(name):
    group, word = (study, name.removeprefix("study_")) if name.startswith("study_") else (app, name)
    for argument in group[word].assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help, argument.name


@pytest.mark.parametrize("name", DEFINED)
def test_its_examples_can_be_typed(name, capsys):
    words = ("study", name.removeprefix("study_")) if name.startswith("study_") else (name,)
    examples = examples_of(words)
    assert examples
    for example in examples:
        function, *_ = app.parse_args(example.removeprefix("fieldmark "), exit_on_error=False, print_error=False)
        assert function is getattr(commands, name)
    app.help_print(list(words))
    printed = capsys.readouterr().out.splitlines()
    assert {*examples} <= {line.strip() for line in printed}


def test_help_lists_commands_by_what_people_do(capsys):
    app.help_print([])
    printed = capsys.readouterr().out
    titles = [line.strip("╭─╮ \n") for line in printed.splitlines() if line.startswith("╭")]
    assert titles == [*(group.name for group in (START, TRAIN, LOOK, USE, DEPLOY, STUDY, DATA)), "Options"]
    assert printed.index("Options ─") < printed.index("--help")
    assert printed.index("Start ─") < printed.index("│ demo ") < printed.index("│ train ") < printed.index("│ resume ")


@pytest.mark.parametrize(
    "words, usage",
    [
        ("train", "train [OPTIONS] DATA [SETTINGS...]"),
        ("demo", "demo [OPTIONS] [SETTINGS...]"),
        ("layouts", "layouts [OPTIONS] [DATA] [SETTINGS...]"),
        ("models", "models [OPTIONS] [PATTERN]"),
        ("study run", "study run --out PATH [OPTIONS] STUDY DATA..."),
        ("study list", "study list [NAME]"),
        ("study", "study COMMAND"),
    ],
)
def test_the_usage_calls_arguments_as_their_table_does(words, usage, capsys):
    app.help_print(words.split())
    assert capsys.readouterr().out.splitlines()[0] == f"Usage: fieldmark {usage}"


def test_python_can_do_what_the_command_line_can():
    public = {
        name for name, value in vars(api).items() if inspect.isfunction(value) and value.__module__ == "fieldmark.api" and name[0] != "_"
    }
    assert public <= set(fieldmark.__all__)
    assert {name for node in DEFINED.values() for name in called(node)} <= public
    assert all(getattr(fieldmark, name) is getattr(api, name) for name in public)


def test_choices_are_those_that_there_are():
    from fieldmark.ensembles.method import method_of
    from fieldmark.evaluation.heat_map_methods import METHODS
    from fieldmark.studies.engines import EngineName

    def choices(command: str, name: str) -> tuple[str, ...]:
        return next(each for each in app[command].assemble_argument_collection() if each.name == f"--{name}").get_choices()

    assert choices("explain", "method") == ("auto", *METHODS)
    assert all(method_of(name) for name in choices("ensemble", "method"))
    assert commands.Engine == EngineName


def test_what_a_submission_can_have_is_listed():
    from fieldmark.evaluation import submission

    explained = inspect.getdoc(api.submit)
    assert f"by default {submission.DEFAULT_COLUMNS}" in explained
    assert all(f" {name}" in explained for name in submission.WHAT)


def test_every_severity_is_measured_by_default():
    from fieldmark.datasets.corruptions import SEVERITIES

    assert inspect.signature(api.evaluate_corruptions).parameters["severities"].default == SEVERITIES


def test_all_species_are_drawn_by_default():
    from fieldmark.datasets.birds.species import SPECIES

    assert inspect.signature(api.draw_birds).parameters["species"].default == len(SPECIES)
