"""What functions of the API take: an argument of another kind is an InputError that names it, not a failure somewhere inside."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import ParamSpec, TypeVar

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PATH, _SWITCH, _TEXT, _WHOLE, _NUMBER = "a path", "True or False", "text", "a whole number", "a number"
_TYPES: dict[str, tuple[type, ...]] = {
    _PATH: (str, os.PathLike),
    _SWITCH: (bool,),
    _TEXT: (str,),
    _WHOLE: (Integral,),
    _NUMBER: (Real,),
}
_WORDS: dict[str, str] = {
    _PATH: "out csv folder study moved_to like",
    _SWITCH: "quiet dry_run quick clear",
    _TEXT: "split crop corrupt scaling score method of weights fit_on ingredients engine layout pattern name prefix "
    "suffix missing_labels several_objects",
    _WHOLE: "top seeds jobs trials species per_class size seed",
    _NUMBER: "accept coverage precision hours",
}
_KINDS = {name: kind for kind, names in _WORDS.items() for name in names.split()}


def fitting(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function, which raises InputError for arguments that it does not take, and for those that it lacks."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*given: Parameters.args, **named: Parameters.kwargs) -> Result:
        if problems := _unfit(function.__name__, signature, len(given), named):
            raise InputError(*problems)
        return function(*given, **named)

    return call


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """As fitting, and for an argument of the wrong kind. None is fine where it is the default."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*given: Parameters.args, **named: Parameters.kwargs) -> Result:
        arguments = signature.bind(*given, **named).arguments
        problems = [
            f"{name} is {_KINDS[name]}, not {described(value)}"
            for name, value in arguments.items()
            if name in _KINDS and not _fits(value, _KINDS[name]) and (value is not None or signature.parameters[name].default is not None)
        ]
        if problems:
            raise InputError(*problems, hint=f"help(fieldmark.{function.__name__}) says what it takes.")
        return function(*given, **named)

    return fitting(call)


def described(value: object) -> str:
    """A value for a message: 3 (int), or a list."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, (int, float, str)):
        text = repr(value)
        return f"{text if len(text) <= 40 else text[:37] + '...'} ({kind})"
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def path_of(value: object, what: str) -> str | Path:
    """A path. Raises InputError that says what `what` is, such as "a run is the path of its folder"."""
    if isinstance(value, (str, os.PathLike)):
        return value if isinstance(value, str) else Path(value)
    raise InputError(f"{what}, not {described(value)}")


def paths_of(values: object, what: str) -> list[str | Path]:
    """One path or several as a list. Raises InputError as path_of does."""
    listed = (
        [values] if isinstance(values, (str, os.PathLike)) or not isinstance(values, Iterable) or isinstance(values, Mapping) else values
    )
    return [path_of(each, what) for each in listed]


def _unfit(function: str, signature: inspect.Signature, given: int, named: Mapping[str, object]) -> list[str]:
    """Why a function cannot be called with so many arguments by their place, and these by their names."""
    parameters = signature.parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    by_place = [name for name, parameter in parameters.items() if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    by_name = [*by_place, *(name for name, parameter in parameters.items() if parameter.kind == parameter.KEYWORD_ONLY)]
    strangers = [] if inspect.Parameter.VAR_KEYWORD in kinds else [name for name in named if name not in by_name]
    needed = [name for name in by_name if parameters[name].default is inspect.Parameter.empty]
    too_many = given > len(by_place) and inspect.Parameter.VAR_POSITIONAL not in kinds
    return [
        *(f"{function} takes no argument {name}{suggest(name, by_name)}" for name in strangers),
        *(
            [f"{function} takes at most {len(by_place)} argument{'s' * (len(by_place) != 1)} without a name, not {given}"]
            if too_many
            else []
        ),
        *(f"{function} is given {name} twice" for name in by_place[:given] if name in named),
        *(f"{function} needs {name}" for name in needed if name not in named and name not in by_place[:given]),
    ]


def _fits(value: object, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == _SWITCH or not isinstance(value, bool))
