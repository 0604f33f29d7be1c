"""What a bundle keeps so that classes can be enrolled in it, and the head that answers for those that were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file
from fieldmark.scoring.enrolment import Enrolled, Head, KnownClasses

_ARRAYS = ("means", "counts", "covariance", "features", "labels", "logits")


@dataclass(frozen=True, eq=False)
class Enrolment:
    """`known` are the classes that the network was trained on; `enrolled` follow them in the order of the logits."""

    known: KnownClasses
    enrolled: tuple[Enrolled, ...] = ()

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        known = self.known
        arrays = {name: getattr(known, name) for name in _ARRAYS} | {"features": known.features.astype(np.float16)}
        if known.groups is not None:
            arrays["groups"] = known.groups
        arrays |= {f"photos.{place}": each.features for place, each in enumerate(self.enrolled)}
        said = {
            "measured": {"within": known.within, "beyond": known.beyond},
            "enrolled": [{"name": each.name, "hashes": each.hashes} for each in self.enrolled],
        }
        arrays = {name: np.ascontiguousarray(each) for name, each in arrays.items()}
        content = safetensors.numpy.save(arrays, {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()})
        with whole_file(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> Enrolment:
        """Raises InputError if it cannot be read; its hash is the bundle's to check."""
        try:
            with safetensors.safe_open(path, "np") as file:
                arrays = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 (it cannot be iterated)
                said = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            known = KnownClasses(
                **{name: arrays[name] for name in _ARRAYS} | {"features": arrays["features"].astype(np.float32)},
                within=float(said["measured"]["within"]),
                beyond=float(said["measured"]["beyond"]),
                groups=arrays.get("groups"),
            )
            enrolled = tuple(
                Enrolled(each["name"], arrays[f"photos.{place}"], tuple(each["hashes"])) for place, each in enumerate(said["enrolled"])
            )
            return cls(known, enrolled)
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}", hint="Export the run again.") from error


def save_head(head: Head, path: Path) -> None:
    """Write it, whole or not at all."""
    content = safetensors.numpy.save({"weight": np.ascontiguousarray(head.weight), "bias": head.bias})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def load_head(path: Path) -> Head:
    """Raises InputError if it cannot be read; its hash is the bundle's to check."""
    try:
        with safetensors.safe_open(path, "np") as file:
            return Head(file.get_tensor("weight"), file.get_tensor("bias"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="Copy the bundle again, or enroll the class again.") from error
