"""A run exported as a bundle: its graph, the proof that it answers as the run does, and everything that it needs to answer alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from fieldmark.bundles.bundle import ENROLMENT, NEIGHBOURS, PARITY, REJECTION, Bundle, seal
from fieldmark.bundles.parity import Agreement, Attempt, Parity
from fieldmark.bundles.record import BundleRecord, Graph, Network, Provenance, Quantisation
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.processor import instruction_sets
from fieldmark.core.randomness import key, permutation
from fieldmark.core.run_folder import now, versions
from fieldmark.core.staging import new_folder, refuse_existing
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.split_file import restore_data
from fieldmark.evaluation.evaluate import require_finished
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.split import SplitPixels, open_split
from fieldmark.exports import cures
from fieldmark.exports.enrolment import enrolment_of
from fieldmark.exports.examples import write_examples
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.neighbours import neighbours_of
from fieldmark.exports.network import deployed
from fieldmark.exports.open_graph import open_graph
from fieldmark.exports.parity import Reference, images_to_prove, is_proven, proof, shortfall, why_not_float, why_not_int8
from fieldmark.exports.readme import write_readme
from fieldmark.exports.request import Request
from fieldmark.models.libraries import load_libraries

_THROUGH_FILES = 200
"""Images of val that are answered from their files as well."""


def export_run(run: Run, request: Request, out: Path, console: Console) -> Bundle:
    """Write the bundle to `out`, which appears whole or not at all.

    Raises InputError if the run is not finished, has no images of val, its data have moved, or the format cannot express its network; and
    CheckFailed, with what was measured, if the graph does not answer as the run does.
    """
    require_finished(run)
    with new_folder(out, refuse_existing) as folder, tempfile.TemporaryDirectory() as work:
        loaded = restore_data(run.folder, run.class_names, console)
        for split in ("val", "train")[: 1 + (request.precision == "int8")]:
            if not len(loaded.rows(split)):
                raise InputError(f"{run.path} has no images of {split}: a bundle is proven on val, and int8 is calibrated on train")
        load_libraries(console)
        single = run.in_float32()
        preprocess = single.preprocess
        val = open_split(loaded, loaded.rows("val"), preprocess, single.recipe.data.corrupt, console)
        predictions = single.predict_rows(loaded, loaded.rows("val"), console)
        source = Source(single, deployed(single), Path(work), console, cache(lambda n: _of_train(single, loaded, n, console)))
        reference = Reference(predictions, single.decisions, single.score)
        _Export(single, request, folder, source, reference, loaded, val, console).write()
    return Bundle.load(out, open_graph)


def _of_train(run: Run, loaded: LoadedData, n: int, console: Console) -> np.ndarray:
    """At most n images of train as the network sees them, drawn alike every time."""
    rows = loaded.rows("train")
    drawn = np.sort(permutation(key(0, "calibration"), len(rows))[:n])
    split = open_split(loaded, rows[drawn], run.preprocess, run.recipe.data.corrupt, console)
    return split.shown(split.sound)


@dataclass(frozen=True, eq=False)
class _Export:
    run: Run
    request: Request
    folder: Path
    source: Source
    reference: Reference
    loaded: LoadedData
    val: SplitPixels
    console: Console

    def write(self) -> None:
        """Fill the folder."""
        request, limits = self.request, self.request.limits
        attempts = self._attempts()
        proven, files = attempts[-1]
        if request.precision == "int8":
            self.console.say(proof(proven.loss, limits))
        score = self.run.score
        if score is not None and score.width is not None:
            score.save(self.folder / REJECTION)
        if "neighbours" in request.parts:
            neighbours = neighbours_of(self.run, self.console)
            neighbours.save(self.folder / NEIGHBOURS)
            size = (self.folder / NEIGHBOURS).stat().st_size
            self.console.say(f"neighbours: {len(neighbours.ids):,} images of train, {size / 1e6:.1f} MB")
        if "enroll" in request.parts:
            with self.console.busy("what enrolling takes"):
                enrolment_of(self.run, self.reference.predictions).save(self.folder / ENROLMENT)
            size = (self.folder / ENROLMENT).stat().st_size
            self.console.say(f"enroll: means and covariance of {len(self.run.class_names):,} classes, answers for val, {size / 1e6:.1f} MB")
        record = self._record(files, proven.cures)
        bundle = Bundle(self.folder, record, open_graph)
        parity = Parity(
            limits=limits,
            agreement=proven.agreement,
            files=self._through_files(bundle),
            loss=proven.loss,
            proven=is_proven(proven.loss, limits),
            images=images_to_prove(proven.loss, limits),
            attempts=tuple(attempt for attempt, _ in attempts) if request.precision == "int8" else (),
            learnt=self.run.has_learnt_val,
            machine=versions() | {"instruction_sets": " ".join(sorted(instruction_sets()))},
        )
        parity.write(self.folder / PARITY)
        write_examples(bundle, self.reference, self.loaded)
        write_readme(self.folder, record, parity)
        seal(self.folder, record)

    def _attempts(self) -> list[tuple[Attempt, dict[int, list[str]]]]:
        """What was tried, with the files by batch size; the last one passed. Raises CheckFailed if none did."""
        if self.request.precision == "float32":
            found = self._attempt(None)
            if found[0].reason:
                raise self._failed([found])
            return [found]
        exporter, limits, kept = self.request.exporter, self.request.limits, Cures()
        tried = [self._attempt(kept)]
        least = shortfall(tried[0][0], limits)
        for cure in cures.in_order(exporter.cures, lambda part: exporter.has(self.source.corrected, part)):
            if not tried[-1][0].reason:
                break
            tried.append(self._attempt(cure(kept)))
            short = shortfall(tried[-1][0], limits)
            if short <= least:
                kept, least = cure(kept), short
            elif tried[-1][0].reason:
                self.console.say("the last cure made it worse and is left out")
        if tried[-1][0].reason:
            raise self._failed(tried)
        return tried

    def _attempt(self, how: Cures | None) -> tuple[Attempt, dict[int, list[str]]]:
        """Write the graphs, and hold them against the reference; of those that fail nothing is left."""
        exporter, files = self.request.exporter, dict[int, list[str]]()
        named = " with ".join(["int8", *([", ".join(how.names)] if how and how.names else [])]) if how else "float32"
        for batch in self.request.batches:
            what = f"{exporter.format} {named} for {batch} image{'s' * (batch > 1)}"
            if how is None:
                with self.console.busy(what):
                    files[batch] = exporter.write(self.source, batch, self.folder)
            else:
                with self.console.timed(what):
                    source = self.source.fine_tuned if how.fine_tuned else self.source.corrected
                    files[batch] = exporter.quantise(source, batch, self.folder, how)
        attempts = [self._measured(batch, files, how) for batch in files]
        failed = next((attempt for attempt in attempts if attempt.reason), None)
        if failed is not None:
            for name in {name for names in files.values() for name in names}:
                (self.folder / name).unlink(missing_ok=True)
        return failed or attempts[0], files

    def _measured(self, batch: int, files: dict[int, list[str]], how: Cures | None) -> Attempt:
        record = self._record({batch: files[batch]}, () if how is None else how.names)
        bundle = Bundle(self.folder, record, open_graph)
        logits, features = self.val.outputs_of(bundle.session, self.console)
        agreement, loss = self.reference.agreement(logits, features), self.reference.loss(logits)
        reason = why_not_float(agreement) if how is None else why_not_int8(agreement, loss, self.request.limits)
        attempt = Attempt(cures=() if how is None else how.names, agreement=agreement, loss=loss, reason=reason)
        self.console.say(_line(attempt, batch, how is None))
        return attempt

    def _through_files(self, bundle: Bundle) -> Agreement:
        """From files of val, decoder and all, against the run's own pass."""
        rows = permutation(key(0, "files"), len(self.reference.predictions))[:_THROUGH_FILES]
        read, boxes = [], self.run.preprocess.margin is not None
        sound = self.val.rows[rows]
        images = [self.loaded.dataset.images.read(self.loaded.dataset.paths[row]) for row in sound]
        regions = self.loaded.dataset.boxes[sound] if boxes and self.loaded.dataset.boxes is not None else [None] * len(images)
        for image, region in zip(images, regions, strict=True):
            read.append(bundle.answerer.networks.one(image, region)[1])
        logits, features = (np.concatenate(each) for each in zip(*[each for each in read if each is not None], strict=True))
        return self.reference.agreement(logits, features, rows)

    def _failed(self, tried: Sequence[tuple[Attempt, object]]) -> CheckFailed:
        """Raised for the best of what was tried."""
        best = min((attempt for attempt, _ in tried), key=lambda attempt: shortfall(attempt, self.request.limits))
        cured = f", even with {', '.join(best.cures)}" if best.cures else ""
        return CheckFailed(
            f"no bundle was written: in {self.request.exporter.format} {self.request.precision}{cured}, {best.reason}",
            hint="--max-loss and --max-changed set what may be lost; without --int8 nothing is."
            if self.request.precision == "int8"
            else None,
        )

    def _record(self, files: dict[int, list[str]], cured: tuple[str, ...]) -> BundleRecord:
        run, request, exporter = self.run, self.request, self.request.exporter
        manifest, summary, network = run.folder.manifest(), run.summary, self.source.network
        names = dict.fromkeys(member.recipe.model.name for member in run.members)
        licences = dict.fromkeys(found for member in run.members if (found := member.folder.manifest().licence))
        quantised = request.precision == "int8"
        return BundleRecord(
            created=now(),
            versions=versions() | {package: metadata.version(package) for package in exporter.packages},
            format=exporter.format,
            precision=request.precision,
            network=Network(name=" + ".join(names), parameters=summary.model.parameters, macs=summary.model.macs, members=len(run.members)),
            graph=Graph(
                files={str(batch): each[0] for batch, each in files.items()},
                layout=exporter.layout,
                outputs=network.outputs,
                width=network.width,
                settings=dict(exporter.settings),
            ),
            preprocess=run.preprocess.record(),
            class_names=run.class_names,
            levels=run.levels,
            decisions=None if run.decisions is None else run.decisions.record,
            quantisation=Quantisation(tool=exporter.tool, images=len(self.source.calibration), cures=cured) if quantised else None,
            provenance=Provenance(
                run=run.name,
                created=manifest.created,
                recipe=manifest.recipe,
                data=manifest.data.name,
                fingerprint=manifest.fingerprint,
                weights=manifest.notes,
                licence=", ".join(licences) or None,
            ),
            files={name: "0" * 64 for each in files.values() for name in each},
        )


def _line(attempt: Attempt, batch: int, is_float: bool) -> str:
    """What was measured, in a line."""
    agreement, loss = attempt.agreement, attempt.loss
    cured = f" with {', '.join(attempt.cures)}" if attempt.cures else ""
    verdict = f"not good enough: {attempt.reason}" if attempt.reason else "passed"
    largest = "not a number" if agreement.largest_difference is None else f"{agreement.largest_difference:.1g}"
    accuracy = (
        "" if is_float else f", top-1 {loss.run:.1f} -> {loss.bundle:.1f} % ({-loss.points:+.1f} [{-loss.high:+.1f}, {-loss.low:+.1f}])"
    )
    same = f"{agreement.equal:,} of {agreement.n:,} answers equal, probabilities within {largest}{accuracy}"
    return f"batch {batch}{cured}: {same}: {verdict}"
