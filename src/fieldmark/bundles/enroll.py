"""A bundle with a new class, from a few photos, or without one that was enrolled; what it was made from stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.answering.answerer import Boxes, lookup
from fieldmark.answering.images import images_in, readable
from fieldmark.answering.in_memory import Source
from fieldmark.bundles.bundle import ENROLMENT, HEAD, RECORD, REJECTION, Bundle, seal
from fieldmark.bundles.enrolment import Enrolment, save_head
from fieldmark.bundles.expected import FOLDER, write_expected
from fieldmark.bundles.parity import AccuracyLoss
from fieldmark.bundles.record import BundleRecord, EnrolledRecord
from fieldmark.core.arguments import described
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError, Problem
from fieldmark.core.names import some, suggest
from fieldmark.core.run_folder import now
from fieldmark.core.staging import new_folder, refuse_existing
from fieldmark.datasets.content import file_hash
from fieldmark.runtime.decode import read
from fieldmark.scoring.decisions import Decisions, Wanted, fit_decisions
from fieldmark.scoring.enrolment import Enrolled
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import unit_length

_README, _ABOVE = "README.md", "## Python\n"
_TRAINED = "trained-"
"""Begins the names of files that are those of the bundle without enrolled classes."""


@dataclass(frozen=True)
class Enrolling:
    """What enrolling a class, or removing one, has made of a bundle.

    photos: of the class, all together; 0 if it was removed. loss: top-1 on images of val, of classes that were trained: of the network
    itself, and now. claimed: how many of these are now said to be of the class. notes: what to know about it.
    """

    bundle: Bundle
    name: str
    photos: int
    loss: AccuracyLoss
    claimed: int
    notes: tuple[str, ...] = ()


def enroll(
    bundle: Bundle,
    name: str,
    images: Source | Iterable[Source],
    out: Path,
    console: Console,
    parents: Mapping[str, str] | None = None,
    boxes: Boxes | None = None,
) -> Enrolling:
    """Write the bundle with a class of this name to `out`, which appears whole or not at all; a class that was enrolled gets more photos.

    parents: of the class, by the name of the level. boxes: of the objects, as of Predictor.predict.
    Raises InputError if the bundle was exported without what it takes, no image can be read, or the name is that of a trained class; and
    CheckFailed if the photos cannot be told from another class, or are not of one class.
    """
    enrolment = _enrolment(bundle)
    _check_name(bundle, name)
    levels = _parents(bundle, name, parents or {})
    earlier = next((each for each in enrolment.enrolled if each.name == name), None)
    others = [each for each in enrolment.enrolled if each.name != name]
    photos, said, notes = _photos(bundle, name, images, boxes, others, earlier, console)
    if earlier is None and (own := [level for level in bundle.levels if level not in (parents or {})]):
        notes.append(f"in the taxonomy it is its own {some(own)}: --parent {own[0]}=NAME says otherwise")
    known, trained = enrolment.known, bundle.class_names[: len(enrolment.known.means)]
    names = [*trained, *(each.name for each in others)]
    count = "one photo" if len(photos.features) == 1 else f"{len(photos.features)} photos"
    if known.disagree(photos.features):
        raise CheckFailed(
            f"the {count} of {name} have less in common than the images of 99 in 100 classes have",
            hint="Leave out those that show something else, or enroll them as classes of their own.",
        )
    if (like := known.like(photos.features, others)) is not None:
        few = "" if len(photos.features) >= 10 else " If not, more photos may tell them apart."
        raise CheckFailed(
            f"the network cannot tell {count} of {name} from {names[like]}: they are as near to it as images of its own may be",
            hint=f"Are they of {names[like]}?{few}",
        )
    if len(photos.features) > 2:
        odd = np.flatnonzero(known.agreement(photos.features) < 0).tolist()
        notes += [f"{said[row]} has nothing in common with the other photos: is it of {name}?" for row in odd]
    kept = [photos if each.name == name else each for each in enrolment.enrolled]
    now_enrolled = Enrolment(known, tuple(kept if earlier is not None else [*kept, photos]))
    return _Writing(bundle, now_enrolled, levels, name, out, console, tuple(notes)).write()


def remove(bundle: Bundle, name: str, out: Path, console: Console) -> Enrolling:
    """Write the bundle without a class that was enrolled to `out`; without the last one, it answers as it was exported.

    Raises InputError if no such class was enrolled.
    """
    enrolment = _enrolment(bundle)
    if name not in (names := [each.name for each in enrolment.enrolled]):
        what = (
            f"{name} was trained, not enrolled" if name in bundle.class_names else f"no class {name!r} was enrolled{suggest(name, names)}"
        )
        raise InputError(what, hint=f"Enrolled are: {', '.join(names)}." if names else f"No class was enrolled in {bundle.path}.")
    left = Enrolment(enrolment.known, tuple(each for each in enrolment.enrolled if each.name != name))
    place = bundle.class_names.index(name)
    levels = {level: [*parents[:place], *parents[place + 1 :]] for level, parents in bundle.levels.items()}
    return _Writing(bundle, left, levels, name, out, console, ()).write()


def _enrolment(bundle: Bundle) -> Enrolment:
    if bundle.enrolment is None:
        raise InputError(
            f"{bundle.path} was exported without --with enroll, so that no class can be enrolled in it",
            hint="Export its run again with --with enroll.",
        )
    return bundle.enrolment


def _check_name(bundle: Bundle, name: str) -> None:
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise InputError(f"{name!r} is not a name for a class", hint="Give one that can be printed, without spaces around it.")
    if name in bundle.class_names and name not in [each.name for each in bundle.record.enrolled]:
        raise InputError(
            f"{bundle.path} was trained on {name}", hint="Photos are added to classes by training; give a new class another name."
        )


def _parents(bundle: Bundle, name: str, parents: Mapping[str, str]) -> dict[str, list[str]]:
    """The taxonomy with the class: where no parent is given, it is its own."""
    if not isinstance(parents, Mapping) or not all(isinstance(each, str) for pair in parents.items() for each in pair):
        wrong = next((each for each in parents.values() if not isinstance(each, str)), parents) if isinstance(parents, Mapping) else parents
        raise InputError(f"parents are names by the name of the level, not {described(wrong)}")
    if unknown := [level for level in parents if level not in bundle.levels]:
        known = f"Its levels are {', '.join(bundle.levels)}." if bundle.levels else "It has no taxonomy."
        raise InputError(*(Problem(f"there is no level {level!r}", place="--parent") for level in unknown), hint=known)
    if name not in bundle.class_names:
        return {level: [*of_each, parents.get(level, name)] for level, of_each in bundle.levels.items()}
    place = bundle.class_names.index(name)
    return {
        level: [parents.get(level, parent) if index == place else parent for index, parent in enumerate(of_each)]
        for level, of_each in bundle.levels.items()
    }


def _photos(
    bundle: Bundle,
    name: str,
    images: Source | Iterable[Source],
    boxes: Boxes | None,
    others: Sequence[Enrolled],
    earlier: Enrolled | None,
    console: Console,
) -> tuple[Enrolled, list[str], list[str]]:
    """The class with its photos, earlier ones first, what each is called, and what to say of them."""
    notes = list(bundle.cautions(boxes is not None))
    elsewhere = {each: other.name for other in others for each in other.hashes}
    hashes = dict.fromkeys(earlier.hashes if earlier is not None else ())
    found = [] if earlier is None else [earlier.features]
    names = [f"photo {place}, enrolled earlier," for place in range(1, len(hashes) + 1)]
    problems, twice, networks, box_of = [], 0, bundle.answerer.networks, lookup(boxes)
    bundle.load_runtime(console)
    with console.busy(f"looking at photos of {name}"):
        for image in images_in(images):
            said = "an image in memory" if isinstance(image, bytes) else readable(image)
            looked, outputs = networks.one(image, box_of(image))
            if outputs is None:
                problems.append(f"{said}: {looked.problem}")
                continue
            digest = file_hash(image if isinstance(image, bytes) else read(image, said))
            if digest in elsewhere:
                raise InputError(f"{said} is a photo of {elsewhere[digest]} already", hint="A photo shows one class.")
            if digest in hashes:
                twice += 1
                continue
            if not np.isfinite(outputs[1]).all():
                problems.append(f"{said}: its features are not numbers")
                continue
            hashes[digest] = None
            names.append(said)
            found.append(unit_length(outputs[1]))
    if not found:
        raise InputError(*(problems or ["there are no images"]), hint=f"Name photos of {name} that can be read.")
    notes += [f"left out: {each}" for each in problems]
    if twice:
        notes.append(f"{twice} {'copy was' if twice == 1 else 'copies were'} left out")
    return Enrolled(name, np.concatenate(found), tuple(hashes)), names, notes


@dataclass(frozen=True, eq=False)
class _Writing:
    bundle: Bundle
    enrolment: Enrolment
    levels: dict[str, list[str]]
    name: str
    out: Path
    console: Console
    notes: tuple[str, ...]

    def write(self) -> Enrolling:
        """Copy what stays, write what changes, and measure what became of the trained classes."""
        enrolled, known = self.enrolment.enrolled, self.enrolment.known
        head = known.head(enrolled) if enrolled else None
        logits, unit = (known.logits, known.features) if head is None else head(known.features)
        with new_folder(self.out, refuse_existing) as folder, self.console.busy(f"writing {self.out}"):
            for name in self.bundle.record.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.bundle.path / name, folder / name)
            self.enrolment.save(folder / ENROLMENT)
            if head is None:
                decisions = self._as_trained(folder)
            else:
                self._keep_trained(folder)
                save_head(head, folder / HEAD)
                decisions = self._decisions(logits, unit, folder)
            record = self._record(decisions)
            _explain(folder, record)
            written = Bundle(folder, record, self.bundle.open_graph, self.bundle.threads)
            write_expected(written, sorted((folder / FOLDER).glob("*.png")))
            seal(folder, record)
        answers = logits.argmax(axis=1)
        names = [each.name for each in enrolled]
        place = len(known.means) + names.index(self.name) if self.name in names else -1
        return Enrolling(
            bundle=Bundle.load(self.out, self.bundle.open_graph, self.bundle.threads),
            name=self.name,
            photos=0 if place < 0 else len(enrolled[names.index(self.name)].features),
            loss=AccuracyLoss.of(known.logits.argmax(axis=1) == known.labels, answers == known.labels),
            claimed=int((answers == place).sum()),
            notes=self.notes,
        )

    def _record(self, decisions: Decisions | None) -> BundleRecord:
        record, enrolled = self.bundle.record, self.enrolment.enrolled
        since = {each.name: each.added for each in record.enrolled}
        trained = record.class_names[: len(self.enrolment.known.means)]
        return record.model_copy(
            update={
                "class_names": (*trained, *(each.name for each in enrolled)),
                "levels": self.levels,
                "decisions": None if decisions is None else decisions.record,
                "enrolled": tuple(
                    EnrolledRecord(name=each.name, photos=len(each.features), added=since.get(each.name, now())) for each in enrolled
                ),
            }
        )

    def _decisions(self, logits: np.ndarray, features: np.ndarray, folder: Path) -> Decisions | None:
        """Fitted anew on val; None for a bundle without calibration."""
        before = self.bundle.record.decisions
        if before is None:
            return None
        known, names = self.enrolment.known, self.enrolment.enrolled
        trained = self.bundle.class_names[: len(known.means)]
        ids = np.array([str(row) for row in range(len(known.labels))], np.str_)
        val = Predictions(ids, known.labels, logits, features, (*trained, *(each.name for each in names)), known.groups)
        precision = next((each.precision for each in before.backoff.values()), Wanted().precision)
        wanted = Wanted(accept=before.rejection.accept, coverage=before.sets.coverage, precision=precision)
        fitted = fit_decisions(None, val, self.levels, wanted, rejection=known.rejection(names))
        fitted.score.save(folder / REJECTION)
        return fitted.decisions

    def _keep_trained(self, folder: Path) -> None:
        """Of a bundle in which nothing was enrolled yet, keep what enrolling replaces."""
        if self.bundle.record.enrolled:
            return
        for name in (RECORD, REJECTION, _README):
            if (self.bundle.path / name).is_file():
                shutil.copyfile(self.bundle.path / name, folder / f"{_TRAINED}{name}")

    def _as_trained(self, folder: Path) -> Decisions | None:
        """Put back what enrolling replaced."""
        (folder / HEAD).unlink()
        (folder / REJECTION).unlink(missing_ok=True)
        for name in (REJECTION, _README):
            if (kept := folder / f"{_TRAINED}{name}").is_file():
                kept.replace(folder / name)
        record = BundleRecord.read(folder / f"{_TRAINED}{RECORD}")
        (folder / f"{_TRAINED}{RECORD}").unlink()
        return None if record.decisions is None else Decisions(record.decisions, len(record.class_names))


def _explain(folder: Path, record: BundleRecord) -> None:
    """Say in the README which classes were enrolled, and what answers for them."""
    kept = folder / f"{_TRAINED}{_README}"
    if not record.enrolled or not kept.is_file():
        return
    photos = "\n".join(f"- {each.name}: {each.photos} {'photo' if each.photos == 1 else 'photos'}" for each in record.enrolled)
    said = f"""## Enrolled classes

These were added without training, from photos:

{photos}

The graph does not know them. All answers of this bundle come from `{HEAD}`, in place of the graph's logits: features of the graph, divided
by their length, times `weight`, plus `bias`. What is promised above, of the sets and of images of none of the classes, is for images of
the classes that were trained: of enrolled ones there are none to measure it on.

"""
    text = kept.read_text(encoding="utf-8")
    (folder / _README).write_text(text.replace(_ABOVE, said + _ABOVE, 1), encoding="utf-8")
