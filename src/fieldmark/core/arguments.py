"""What functions of the API take: an argument of another kind is an InputError that names it, not a failure somewhere inside."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from fieldmark.core.environment import kept_environment
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
_KINDS = {
    frozenset([str, Path]): _PATH,
    frozenset([bool]): _SWITCH,
    frozenset([str]): _TEXT,
    frozenset([int]): _WHOLE,
    frozenset([float]): _NUMBER,
}
"""By what the annotation of an argument says that it is, None aside."""
_SAY_THEMSELVES = ("data", "recipe")
"""Arguments whose own errors say more than that they are paths."""
_LONGEST_NAME = 255
"""Bytes of the name of a file or folder, on all usual file systems."""


@dataclass(frozen=True)
class Accepted:
    """What an argument may be: of a kind, or one of some words."""

    kind: str = ""
    words: tuple[str, ...] = ()

    def wrong(self, name: str, value: object) -> str | None:
        """Why the value of the argument `name` cannot be used; None if it can."""
        if self.words:
            known = f"{', '.join(self.words[:-1])} or {self.words[-1]}" if len(self.words) > 1 else self.words[0]
            near = suggest(value, self.words) if isinstance(value, str) else ""
            return None if value in self.words else f"{name} is {known}, not {described(value)}{near}"
        if not isinstance(value, _TYPES[self.kind]) or (self.kind != _SWITCH and isinstance(value, bool)):
            return f"{name} is {self.kind}, not {described(value)}"
        return no_path(name, value) if self.kind == _PATH and isinstance(value, str | os.PathLike) else None


@cache
def accepted(function: Callable[..., object]) -> dict[str, Accepted]:
    """What the arguments of a function may be, by their names, as far as their annotations say it."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        try:
            annotation = eval(parameter.annotation, function.__globals__) if isinstance(parameter.annotation, str) else parameter.annotation
        except NameError:  # a class that is imported only for annotations checks its arguments itself
            continue
        options = set(get_args(annotation) if isinstance(annotation, UnionType) or get_origin(annotation) is Union else [annotation])
        options.discard(NoneType)
        if all(get_origin(option) is Literal for option in options):
            found[name] = Accepted(words=tuple(word for option in options for word in get_args(option)))
        elif (kind := _KINDS.get(frozenset(options))) and name not in _SAY_THEMSELVES:
            found[name] = Accepted(kind)
    return found


def fitting(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function, which raises InputError for arguments that it does not take, and for those that it lacks."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*given: Parameters.args, **named: Parameters.kwargs) -> Result:
        if problems := _unfit(function.__qualname__, signature, len(given), named):
            raise InputError(*problems)
        return function(*given, **named)

    return call


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """As fitting, and for an argument of the wrong kind, or that is none of the words of a Literal. None is fine where it is the default.

    After the call environment variables and global generators are as they were, whatever was imported for it.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*given: Parameters.args, **named: Parameters.kwargs) -> Result:
        called = _called(function.__qualname__, given)
        if unfit := _unfit(called, signature, len(given), named):
            raise InputError(*unfit)
        arguments, known = signature.bind(*given, **named).arguments, accepted(function)
        problems = [
            known[name].wrong(name, value)
            for name, value in arguments.items()
            if name in known and (value is not None or signature.parameters[name].default is not None)
        ]
        if wrong := [problem for problem in problems if problem is not None]:
            raise InputError(*wrong, hint=f"help(fieldmark.{called}) says what it takes.")
        with kept_environment():
            return function(*given, **named)

    return call


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


def _called(name: str, given: Sequence[object]) -> str:
    """What a call is known by: a method by the class of its object, which may have inherited it."""
    of, _, method = name.rpartition(".")
    if not of or not given:
        return name
    owner = given[0] if isinstance(given[0], type) else type(given[0])
    return f"{owner.__name__}.{method}" if hasattr(owner, method) else name


def _unfit(function: str, signature: inspect.Signature, given: int, named: Mapping[str, object]) -> list[str]:
    """Why a function cannot be called with so many arguments by their place, and these by their names."""
    parameters = dict(signature.parameters)
    if next(iter(parameters), "") in ("self", "cls"):  # of a method, which nobody gives
        parameters.pop(next(iter(parameters)))
        given -= 1
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
        *(f"{function} is given {name} twice{_keyed(name, named[name], kinds)}" for name in by_place[:given] if name in named),
        *(f"{function} needs {name}" for name in needed if name not in named and name not in by_place[:given]),
    ]


def _keyed(name: str, value: object, kinds: Collection[object]) -> str:
    """The end of the message that an argument is given twice, if a section of the recipe of that name was meant."""
    if inspect.Parameter.VAR_KEYWORD not in kinds or not isinstance(value, Mapping):
        return ""
    keys = ", ".join(f'"{name}.{key}": {each!r}' for key, each in value.items())
    return f"; settings of the section {name} are given as {{{keys}}}"


def no_path(name: str, value: str | os.PathLike) -> str | None:
    """Why `value`, which is called `name`, cannot be the path of anything; None if it can."""
    path = os.fsdecode(value)
    longest = max(map(len, os.fsencode(path).split(os.fsencode(os.sep))))
    if not path:
        return f"{name} is empty; was a variable meant that is not set?"
    if "\0" in path:
        return f"{name} is a path, which cannot hold the character NUL: {described(path)}"
    if longest > _LONGEST_NAME:
        return f"{name} has a name of {longest} bytes, and file systems allow {_LONGEST_NAME}: {described(path)}"
    return None
