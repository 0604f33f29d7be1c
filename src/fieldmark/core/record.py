"""JSON files that Fieldmark writes and reads back: typed, with a schema number, and checked whenever they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from fieldmark.core.errors import InputError
from fieldmark.core.files import json_text, write_json

Count = Annotated[int, Field(ge=0, lt=2**63)]
NonNegative = Annotated[float, Field(ge=0, lt=2**63, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Measured = float | None
"""None for what is not a finite number, which JSON does not have."""

_SHOWN = 40
_OTHER_VERSION = "Use the version of Fieldmark that wrote it."
_UPGRADE = "A newer version of Fieldmark wrote it: pip install --upgrade fieldmark"


class Record(BaseModel):
    """A part of a file. Keys that only a newer version knows are kept as they are; a field that was never set is not written."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    @model_serializer(mode="wrap")
    def _what_was_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if name in self.model_fields_set}

    def __getitem__(self, key: str) -> Any:
        """A field by its name in the file: `summary["test"]["top1"]` is `summary.test.top1`."""
        if key in self.model_fields_set:
            return getattr(self, key)
        raise KeyError(key)


class RecordFile(Record):
    """A whole file. One without a schema number is of schema 1."""

    SCHEMA: ClassVar[int] = 1
    REMEDY: ClassVar[str | None] = None
    """What to do if the file cannot be used."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises InputError, which names the file and every field at fault, where it is missing or Fieldmark did not write it."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} is missing", hint=cls.REMEDY) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} cannot be read: {error}", hint=cls.REMEDY) from None
        if not isinstance(values, dict):
            raise InputError(f"{path} does not hold what Fieldmark writes there", hint=cls.REMEDY)
        if (schema := values.pop("schema", 1)) != cls.SCHEMA:
            raise InputError(
                f"{path} has schema {json_text(schema)[:_SHOWN]}, and this version of Fieldmark reads schema {cls.SCHEMA}",
                hint=_UPGRADE if isinstance(schema, int) and schema > cls.SCHEMA else cls.REMEDY or _OTHER_VERSION,
            )
        try:
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise InputError(f"{path} is damaged: {'; '.join(faults(error))}", hint=cls.REMEDY) from None

    def write(self, path: Path) -> None:
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """What is written."""
        return {"schema": self.SCHEMA} | self.model_dump(mode="json", by_alias=True)


def faults(error: ValidationError) -> list[str]:
    """Each field that cannot be used, and what is wrong with it."""
    found = []
    for each in error.errors():
        place = ".".join(map(str, each["loc"]))
        if each["type"] == "missing":
            found.append(f"{place} is missing")
        elif each["type"] == "value_error":
            found.append(f"{place}: {each['ctx']['error']}")
        else:
            value = each["input"]
            shown = "" if isinstance(value, (dict, list)) else f", not {json_text(value)[:_SHOWN]}"
            found.append(f"{place} {each['msg'].removeprefix('Input ')}{shown}")
    return found
