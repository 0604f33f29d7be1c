"""What a bundle keeps so that classes can be enrolled in it, and the head that answers for those that were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.bundles.arrays import arrays_of, write_arrays
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
        write_arrays(path, arrays, said)

    @classmethod
    def load(cls, path: Path) -> Enrolment:
        """Raises InputError if it cannot be read; its hash is the bundle's to check."""
        with arrays_of(path) as (arrays, said):
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


def save_head(head: Head, path: Path) -> None:
    """Write it, whole or not at all."""
    write_arrays(path, {"weight": head.weight, "bias": head.bias})


def load_head(path: Path) -> Head:
    """Raises InputError if it cannot be read; its hash is the bundle's to check."""
    with arrays_of(path) as (arrays, _):
        return Head(arrays["weight"], arrays["bias"])
