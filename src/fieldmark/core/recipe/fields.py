"""The recipe's fields as a flat list of dotted keys, read off the schema.

What a list of sections holds has keys such as `stages[].epochs`; they are described like others, but are set with the list as a whole.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fieldmark.core.recipe.recipe import Recipe


@dataclass(frozen=True)
class RecipeField:
    key: str
    type: str
    default: Any
    unit: str | None
    meaning: str
    variant: str | None
    """The variant of a choice that has this field (`optim.momentum` exists for `sgd` only); None if it always exists."""

    @property
    def in_list(self) -> bool:
        return "[]" in self.key


@dataclass(frozen=True)
class Choice:
    """A tagged union: `key` is its section (`optim`), `variants` the model of each name."""

    key: str
    variants: dict[str, type[BaseModel]]
    default: str


def _variants(annotation: Any) -> dict[str, type[BaseModel]]:
    if get_origin(annotation) is typing.Annotated:
        return _variants(get_args(annotation)[0])
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    models = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
    return {model.model_fields["name"].default: model for model in models if _is_tag(model.model_fields.get("name"))}


def _is_tag(field: FieldInfo | None) -> bool:
    return field is not None and get_origin(field.annotation) is Literal


@cache
def choices() -> dict[str, Choice]:
    """Every tagged union of the recipe by its dotted key."""
    found: dict[str, Choice] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            key = prefix + name
            if variants := _variants(field.annotation):
                default = typing.cast(Any, field.get_default(call_default_factory=True)).name
                found[key] = Choice(key, variants, default)
                for variant in variants.values():
                    walk(variant, key + ".")
            elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, key + ".")

    walk(Recipe, "")
    return found


@cache
def fields() -> tuple[RecipeField, ...]:
    """Every field of the recipe, in the order of the schema; those of a variant follow the choice's `name`."""
    found: list[RecipeField] = []

    def walk(model: type[BaseModel], prefix: str, variant: str | None) -> None:
        for name, field in model.model_fields.items():
            key = prefix + name
            if key in choices():
                choice = choices()[key]
                names = tuple(choice.variants)
                found.append(RecipeField(f"{key}.name", " | ".join(names), choice.default, None, field.description or "", None))
                for variant_name, variant_model in choice.variants.items():
                    walk(variant_model, key + ".", variant_name)
            elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, key + ".", variant)
            elif not _is_tag(field) or name != "name":
                if item := _item(field.annotation):
                    type_text = f"list of {{{', '.join(item.model_fields)}}}"
                    found.append(RecipeField(key, type_text, field.default, None, field.description or "", variant))
                    walk(item, key + "[].", variant)
                    continue
                extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
                unit = typing.cast("str | None", extra.get("unit"))
                default = field.get_default(call_default_factory=True)
                found.append(RecipeField(key, _type_text(field.annotation), default, unit, field.description or "", variant))

    walk(Recipe, "", None)
    return tuple(found)


@cache
def keys() -> frozenset[str]:
    """Every key that can be set."""
    return frozenset(field.key for field in fields() if not field.in_list)


def item_keys(key: str) -> list[str]:
    """What each section in a list of sections has, such as epochs and trainable for `stages`; nothing for other keys."""
    return list(dict.fromkeys(field.key.removeprefix(f"{key}[].") for field in fields() if field.key.startswith(f"{key}[].")))


def sections() -> tuple[str, ...]:
    return tuple(Recipe.model_fields)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, for editors: every key optional, `extends` allowed."""
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "the preset or file that this recipe changes"}
    schema["title"] = "Fieldmark recipe"
    return schema


def _item(annotation: Any) -> type[BaseModel] | None:
    """The section that a list holds."""
    item = get_args(annotation)[0] if get_origin(annotation) is tuple else None
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def _type_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if origin is tuple and arguments[1:] == (...,):
        return f"list of {_type_text(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(_type_text(argument) for argument in arguments)}]"
    if origin in (Union, UnionType):
        return " | ".join(_type_text(argument) for argument in arguments)
    return {int: "integer", float: "number", str: "text", bool: "true | false", NoneType: "null"}[annotation]
