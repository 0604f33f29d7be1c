"""Enrolled classes as lines, and what `fieldmark enroll` was given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fieldmark.bundles.bundle import Bundle
from fieldmark.bundles.enroll import Enrolling
from fieldmark.core.errors import InputError


def wanted(name: str | None, images: Sequence[str], out: Path | None, *, remove: bool, list: bool) -> None:
    """Raises InputError if the arguments are not those of one of its three uses."""
    if list:
        problem = "--list names what was enrolled, and takes nothing but the bundle" if name is not None or out is not None else ""
    elif name is None:
        problem = "the name of the class is missing"
    elif remove and images:
        problem = f"--remove takes the name of a class, and no images: {images[0]}"
    elif not remove and not images:
        problem = f"no photos of {name} are named"
    else:
        problem = "--out, the folder of the new bundle, is missing" if out is None else ""
    if problem:
        raise InputError(problem, hint="As in: fieldmark enroll BUNDLE NAME IMAGE... --out NEW")


def listed(bundle: Bundle) -> Iterator[str]:
    for each in bundle.record.enrolled:
        yield f"{each.name}: {each.photos} {'photo' if each.photos == 1 else 'photos'}, enrolled {each.added:%Y-%m-%d %H:%M} UTC"
    if not bundle.record.enrolled:
        yield f"no class was enrolled in {bundle.path}"


def as_lines(found: Enrolling) -> Iterator[str]:
    loss = found.loss
    change = f"{loss.run:.1f} -> {loss.bundle:.1f} % ({0 - loss.points:+.1f} points [{0 - loss.high:+.1f}, {0 - loss.low:+.1f}])"
    yield from (f"note: {each}" for each in found.notes)
    yield f"classes that were trained: top-1 on {loss.n:,} images of val {change}"
    if found.photos:
        yield f"{found.claimed} of these images are now said to be {found.name}, which none of them shows"
        yield f"{found.name} is enrolled from {found.photos} {'photo' if found.photos == 1 else 'photos'}: {found.bundle.path}"
    else:
        yield f"{found.name} was removed: {found.bundle.path}"
