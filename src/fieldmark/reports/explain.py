"""Why a run answers as it does, image by image: a folder with one HTML file, its figures for scripts, and the maps as images.

A map shows what an answer depends on according to one method. Each is therefore put to the deletion check, and the result is stated next
to it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fieldmark.answering.answerer import Boxes
from fieldmark.answering.images import images_in, readable
from fieldmark.answering.in_memory import Source
from fieldmark.bundles.bundle import Bundle
from fieldmark.bundles.heat_map import heat_map
from fieldmark.bundles.neighbours import Neighbours
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import check_creatable, storage_error, whole_file, write_json, write_text
from fieldmark.core.names import typed
from fieldmark.core.run_folder import versions
from fieldmark.datasets.content import file_hash
from fieldmark.evaluation.deletion import MOVED, Deletion, DeletionSummary, deletion_check, deletion_summary
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.heat_map_methods import METHODS
from fieldmark.evaluation.run import Run
from fieldmark.reports.gallery import thumbnail
from fieldmark.reports.overlay import overlay
from fieldmark.reports.pages import data_uri, jpeg_uri, render
from fieldmark.reports.seen import as_seen
from fieldmark.runtime.decode import UnreadableImage, read
from fieldmark.scoring.neighbours import Confusion, confusions, nearest
from fieldmark.scoring.predictions import Predictions

PAGE, FIGURES = "explain.html", "explain.json"
_STARTS = {PAGE: b"<!doctype html>\n<!-- an explanation of Fieldmark -->\n", FIGURES: b'{\n  "made_by": "fieldmark explain"'}
_OVERLAY = re.compile(r"\d+-.*\.png", re.DOTALL)
_MADE_BY = ("Software", "Fieldmark explain")
_MADE_BY_AT = 37
"""Where in our PNGs the kind of the chunk stands that follows the header."""
_MOST = 200
"""Images of one page; with more, a browser would have to open 50 MB."""
_NEAREST = 4
_SIDE = 480


@dataclass(frozen=True)
class Explained:
    """What explain_run has written: `page` to be read, `figures` for scripts.

    `problems` are those of images that could not be read, by path. `summary` is None if no map was checked.
    """

    page: Path
    figures: Path
    images: int
    problems: Mapping[str, str]
    summary: DeletionSummary | None


@dataclass(frozen=True)
class _Confused:
    """The class that those of the answer are most often mistaken for."""

    name: str
    times: int
    n: int
    split: str


@dataclass(frozen=True)
class _Neighbour:
    """A training image; `thumbnail` is a JPEG as a data URI, or None where `reason` says why there is none."""

    path: str
    thumbnail: str | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Map:
    """A heat map over its image, as a PNG with its name and as a data URI, and whether it can be trusted."""

    file: str
    png: bytes
    shown: str
    check: Deletion

    @property
    def _more(self) -> int:
        """Points of probability that deleting the marked places costs beyond deleting as many elsewhere."""
        return round(100 * self.check.gain)

    @property
    def _rivals(self) -> int:
        """How many of the maps laid elsewhere cost as much."""
        return int((self.check.moved <= self.check.score).sum())

    @property
    def state(self) -> str:
        """`holds`, `unsure` or `fails`."""
        return "fails" if self._more < 1 else "unsure" if self._rivals else "holds"

    @property
    def brief(self) -> str:
        said = {"holds": f"+{_points(self._more)}", "unsure": f"+{_points(self._more)}, may be chance", "fails": "not to be trusted"}
        return said[self.state]

    @property
    def verdict(self) -> str:
        if self.state == "fails":
            more = "no more" if self.check.gain <= 0 else "less than a point more"
            return f"Deleting what the map marks costs {more} than deleting as much elsewhere: do not trust this map."
        text = f"Deleting what the map marks costs {_points(self._more)} more than deleting as much elsewhere"
        of = f"of {len(self.check.moved)} maps laid elsewhere"
        if self._rivals:
            return f"{text}, but {self._rivals} {of} cost{'s' * (self._rivals == 1)} as much: it may be chance."
        return f"{text}; none {of} costs as much."


@dataclass(frozen=True)
class _Answer:
    """What the run says of an image, which is a data URI. Probabilities are in [0, 1]; `runner_up` is None if there is only one class."""

    name: str
    probability: float
    runner_up: str | None
    runner_up_probability: float
    unknown: bool
    confused: _Confused | None
    map: _Map | None
    image: str
    nearest: tuple[_Neighbour, ...]
    nearest_confused: tuple[_Neighbour, ...]


@dataclass(frozen=True)
class _Panel:
    """One image; `answer` is None where `failure` says why there is none."""

    path: str
    answer: _Answer | None
    failure: str = ""
    notes: tuple[str, ...] = ()


def explain_run(
    run: Run | Bundle,
    images: Source | Iterable[Source],
    out: Path,
    console: Console,
    method: str = "auto",
    boxes: Boxes | None = None,
) -> Explained:
    """Write explain.html, explain.json and a PNG of each map into `out`. The same images give the same bytes.

    Args:
        images: files, folders (searched for images) and patterns; one that cannot be read has a row that says so.
        out: a new folder, or one with an earlier explanation, which is replaced.
        method: one of evaluation.heat_map_methods.METHODS; "auto" is the one that suits the architecture; without one there is no map. A
            bundle has the class-activation map of its graph alone, and training images if it was exported with them.
        boxes: as in Run.predict.

    Raises InputError, before anything is written, for an ensemble of several networks, for a method that does not apply to the
    architecture, for more than 200 images, and if `out` holds something else.
    """
    if isinstance(run, Bundle):
        if method != "auto":
            raise InputError(f"{run.path} is a bundle, whose only maps are its graph's class-activation maps", hint="Leave the method out.")
    elif run.is_combined:
        listed = ", ".join(str(member.path) for member in run.members)
        problem = f"{run.path} is an ensemble of {len(run.members)} networks, each with maps of its own"
        raise InputError(problem, hint=f"Explain one of them: {listed}.")
    if method not in ("auto", *METHODS):
        raise InputError(f"there is no method {method!r} for heat maps", hint=f"Choose auto, {', '.join(METHODS)}.")
    files = list(images_in(images))
    if len(files) > _MOST:
        raise InputError(f"{len(files):,} images are too many for one page, which holds {_MOST}", hint="Name fewer of them.")
    names = [readable(image) if isinstance(image, Path) else f"image {number}" for number, image in enumerate(files, start=1)]
    names_of_maps = [_map_name(number, len(files), name) for number, name in enumerate(names, start=1)]
    earlier = _earlier(out, {*_STARTS, *names_of_maps})
    cautions = run.cautions(boxes is not None)
    console.say(*(f"warning: {caution}" for caution in cautions))
    run.load_runtime(console)
    with console.waiting(f"loading {run.name}"):
        explainer = _BundleExplainer(run, boxes) if isinstance(run, Bundle) else _RunExplainer(run, method, boxes)
    panels = []
    with run.computing(), console.progress("explaining", "images") as advance:
        for image, name, file in zip(files, names, names_of_maps, strict=True):
            panel = explainer.panel(image, name, file)
            if panel.failure:
                console.say(f"left out: {panel.path}: {panel.failure}")
            panels.append(panel)
            advance(len(panels), len(files))
    maps = [panel.answer.map for panel in panels if panel.answer is not None and panel.answer.map is not None]
    summary = deletion_summary([each.check for each in maps]) if maps else None
    if explainer.data_gone and not explainer.without_neighbours:
        said = f"the run's dataset was at {explainer.data_gone} and is not there any more, so the page lacks its images"
        console.say(f"{said}; if it was moved: {explainer.found_again}")
    page = render("reports/explain.html.j2", _content(explainer, panels, summary, cautions))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for stale in earlier - {each.file for each in maps}:
            (out / stale).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, out / PAGE) from error
    for each in maps:
        with whole_file(out / each.file) as temporary:
            temporary.write_bytes(each.png)
    write_json(out / FIGURES, _figures(explainer, panels, summary))
    write_text(out / PAGE, page)
    problems = {panel.path: panel.failure for panel in panels if panel.answer is None}
    return Explained(out / PAGE, out / FIGURES, len(panels), problems, summary)


def maps_of(run: Run, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """The heat map of each image for its class: float32 (n, S, S) in [0, 1].

    None if there is no map for the architecture, or the run is an ensemble of several networks.

    pixels: uint8 (n, 3, S, S), as run.preprocess returns them; classes: int (n,)
    """
    if run.is_combined:
        return None
    with run.computing() as execution:
        from fieldmark.evaluation.explanation import heat_maps

        try:
            return heat_maps(run.model, pixels, classes, run.normalisation, execution, _usual_method(run))
        except InputError:
            return None


def _usual_method(run: Run) -> str:
    with run.computing():
        from fieldmark.evaluation.explanation import default_method

        return default_method(run.model)


class _Explainer:
    """What is explained, and everything its images are compared with, read once.

    `without_map` and `without_neighbours` say why there are none; otherwise they are empty.
    """

    model: str
    method: str
    without_map = ""
    without_neighbours = ""
    data_gone = ""
    found_again = ""
    """The command that points the run to data that were moved."""
    train: Predictions | Neighbours | None = None
    """The training images, and `hashes` by their paths."""
    hashes: Mapping[str, str] = MappingProxyType({})
    confusions: Sequence[Confusion | None] = ()

    def __init__(self, run: Run | Bundle, boxes: Boxes | None):
        self.run = run
        self._boxes = None if boxes is None else {os.path.abspath(path): box for path, box in boxes.items()}
        self._trained_on: set[str] = set()

    def _heat(self, pixels: np.ndarray, label: int) -> np.ndarray | None:
        """The map (S, S) in [0, 1] of an image (1, 3, S, S) for a class; None, and `without_map` is set, if there is none."""
        raise NotImplementedError

    def _shown(self, path: str) -> _Neighbour:
        """A training image."""
        raise NotImplementedError

    def _nearest(self, features: np.ndarray, label: int, digest: str) -> tuple[_Neighbour, ...]:
        """The nearest training images of the class, without copies of the image itself."""
        train = self.train
        if train is None:
            return ()
        same = sum(self.hashes.get(path) == digest for path in train.ids[train.labels == label].tolist())
        rows = nearest(train, features, label, _NEAREST + same)[0]
        paths = [path for path in train.ids[rows].tolist() if self.hashes.get(path) != digest]
        return tuple(map(self._shown, paths[:_NEAREST]))

    def panel(self, given: Path | bytes, name: str, map_file: str) -> _Panel:
        """What there is to say about one file; `map_file` is the name of its map."""
        run = self.run
        box = None if self._boxes is None or isinstance(given, bytes) else self._boxes.get(os.path.abspath(given))
        try:
            data = given if isinstance(given, bytes) else read(given, name)
            pixels = run.preprocess.pixels(data, name, box)[None]
            image = as_seen(run.preprocess, data, name, box, _SIDE)
        except UnreadableImage as error:
            return _Panel(name, None, error.reason)
        logits, features = run.session(pixels)
        probabilities = self._probabilities(logits)[0]
        if not np.isfinite(probabilities).all():
            return _Panel(name, None, "the answer is not a number")
        best, *others = np.argsort(-probabilities, kind="stable").tolist()
        digest, unknown = file_hash(data), run.answerer.unknown(logits, features)
        confused = self.confusions[best] if self.confusions else None
        answer = _Answer(
            name=run.class_names[best],
            probability=float(probabilities[best]),
            runner_up=run.class_names[others[0]] if others else None,
            runner_up_probability=float(probabilities[others[0]]) if others else 0.0,
            unknown=unknown is not None and bool(unknown[0]),
            confused=None if confused is None else _Confused(run.class_names[confused.label], confused.times, confused.n, confused.split),
            map=self._map(pixels, best, digest, image, map_file),
            image=jpeg_uri(image),
            nearest=self._nearest(features, best, digest),
            nearest_confused=() if confused is None else self._nearest(features, confused.label, digest),
        )
        notes = []
        if self._boxes is not None and box is None:
            notes.append("It has no box and was seen whole.")
        if digest in self._trained_on:
            notes.append("The run was trained on this very image: its answer says little of other images.")
        return _Panel(name, answer, notes=tuple(notes))

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        """As the run states them: float32 (n, C)."""
        return self.run.probabilities(logits)

    def _map(self, pixels: np.ndarray, label: int, digest: str, image: Image.Image, file: str) -> _Map | None:
        heat = None if self.without_map else self._heat(pixels, label)
        if heat is None:
            return None

        def probability(deleted: np.ndarray) -> np.ndarray:
            return self._probabilities(self.run.session(deleted)[0])[:, label]

        # Seeded by its content, so that the result does not depend on the other images.
        check = deletion_check(probability, pixels[0], heat, seed=int(digest[:8], 16))
        laid = overlay(image, heat)
        return _Map(file, _png(laid), jpeg_uri(laid), check)


class _BundleExplainer(_Explainer):
    run: Bundle

    def __init__(self, bundle: Bundle, boxes: Boxes | None):
        super().__init__(bundle, boxes)
        self.model, self.method = bundle.record.network.name, "class-activation map"
        neighbours = bundle.neighbours
        if neighbours is None:
            self.without_neighbours = "the bundle was exported without --with neighbours"
        else:
            self.train, self.confusions = neighbours, (*neighbours.confusions, *(None for _ in bundle.record.enrolled))
            self.hashes = dict(zip(neighbours.ids.tolist(), neighbours.hashes, strict=True))
            self._trained_on = set(neighbours.hashes)
        if not bundle.has_map:
            why = "cannot explain classes that were enrolled" if bundle.record.enrolled else "has no class-activation map"
            self.without_map = f"the graph of {self.model} {why}"

    def _heat(self, pixels: np.ndarray, label: int) -> np.ndarray | None:
        logits, _, maps = self.run.session.outputs(pixels)
        if int(logits[0].argmax()) != label:
            return None  # vector scaling chose another class than the one that the map is of
        return heat_map(maps[0], pixels.shape[-1])

    def _shown(self, path: str) -> _Neighbour:
        neighbours = self.run.neighbours
        assert neighbours is not None
        jpeg = neighbours.thumbnails[neighbours.row_of[path]]
        return _Neighbour(path, data_uri(jpeg, "jpeg")) if jpeg else _Neighbour(path, None, "it could not be read at the export")


class _RunExplainer(_Explainer):
    run: Run

    def __init__(self, run: Run, method: str, boxes: Boxes | None):
        super().__init__(run, boxes)
        self.model = run.recipe.model.name
        self.method = _usual_method(run) if method == "auto" else method
        self._required = method != "auto"
        self.train = run.predictions("train")
        self.without_neighbours = "" if self.train is not None else "the run has no predictions of its training images"
        self.confusions = confusions({split: run.predictions(split, features=False) for split in ("val", "test")})
        evidence = Evidence(run)
        self._images, self.hashes = evidence.images, evidence.images.hashes
        self.data_gone = evidence.root if evidence.moved else ""
        self.found_again = f"fieldmark evaluate {typed(run.path)} --moved-to PLACE"
        self._trained_on = {row["hash"] for row in evidence.rows if row["split"] in evidence.learnt}
        self._neighbours: dict[str, _Neighbour] = {}

    def _heat(self, pixels: np.ndarray, label: int) -> np.ndarray | None:
        run = self.run
        try:
            with run.computing() as execution:
                from fieldmark.evaluation.explanation import heat_maps

                return heat_maps(run.model, pixels, np.array([label]), run.normalisation, execution, self.method)[0]
        except InputError as error:
            if self._required:
                raise
            self.without_map = str(error.problems[0])
            return None

    def _shown(self, path: str) -> _Neighbour:
        if self.data_gone:
            return _Neighbour(path, None, "the dataset is no longer there")
        if path not in self._neighbours:
            try:
                shown = thumbnail(self._images, path)
                self._neighbours[path] = _Neighbour(path, shown)
            except UnreadableImage as error:
                self._neighbours[path] = _Neighbour(path, None, error.reason)
        return self._neighbours[path]


def _content(explainer: _Explainer, panels: Sequence[_Panel], summary: DeletionSummary | None, cautions: Sequence[str]) -> dict[str, Any]:
    """What the template shows."""
    run = explainer.run
    answers = [panel.answer for panel in panels if panel.answer is not None]
    maps = [answer.map for answer in answers if answer.map is not None]
    return {
        "run": run.name,
        "model": explainer.model,
        "size": run.preprocess.size,
        "panels": panels,
        "shared": _shared([panel.path for panel in panels]),
        "answered": len(answers),
        "unlike": sum(answer.unknown for answer in answers),
        "judges": run.decisions is not None,
        "maps": len(maps),
        "holding": sum(each.state == "holds" for each in maps),
        "moved": MOVED,
        "summary": None if summary is None or summary.n < 2 else _sentence(summary),
        "method": explainer.method,
        "without_map": explainer.without_map,
        "without_neighbours": explainer.without_neighbours,
        "data_gone": explainer.data_gone,
        "found_again": explainer.found_again,
        "cautions": cautions,
        "scale": data_uri(_png(overlay(np.full((8, 256, 3), 160, np.uint8), np.tile(np.linspace(0, 1, 256), (8, 1)))), "png"),
        "version": versions()["fieldmark"],
    }


def _figures(explainer: _Explainer, panels: Sequence[_Panel], summary: DeletionSummary | None) -> dict[str, Any]:
    """What explain.json holds."""
    return {
        "made_by": "fieldmark explain",
        "run": explainer.run.name,
        "method": None if explainer.without_map else explainer.method,
        "summary": None if summary is None else {**vars(summary), "shown": summary.significant},
        "images": [_row(panel) for panel in panels],
    }


def _row(panel: _Panel) -> dict[str, Any]:
    answer = panel.answer
    if answer is None:
        return {"path": panel.path, "answer": None, "note": panel.failure}
    shown, confused = answer.map, answer.confused
    return {
        "path": panel.path,
        "answer": answer.name,
        "probability": answer.probability,
        "runner_up": answer.runner_up,
        "runner_up_probability": answer.runner_up_probability if answer.runner_up is not None else None,
        "unknown": answer.unknown,
        "confused_with": None if confused is None else confused.name,
        "map": None if shown is None else shown.file,
        "deletion": None if shown is None else _deletion(shown.check),
        "nearest": [each.path for each in answer.nearest],
        "nearest_confused": [each.path for each in answer.nearest_confused],
        "note": " ".join(panel.notes),
    }


def _deletion(check: Deletion) -> Mapping[str, float]:
    return {"score": check.score, "moved_mean": float(check.moved.mean()), "gain": check.gain, "p": check.p}


def _sentence(summary: DeletionSummary) -> str:
    cost = f"deleting what the map marks costs {summary.cost} than deleting as much elsewhere"
    found = "on average the maps mark what matters" if summary.significant else "no significant evidence that the maps mark what matters"
    return f"Over {summary.n} images, {cost} ({summary.interval}): {found}."


def _shared(paths: Sequence[str]) -> int:
    """How many characters the folder takes that all paths are in."""
    folders = (f"{folder}/" for folder in Path(paths[0]).parents)
    return next((len(folder) for folder in folders if all(path.startswith(folder) for path in paths)), 0)


def _points(number: int) -> str:
    return f"{number} point{'s' * (number != 1)}"


def _map_name(number: int, of: int, name: str) -> str:
    """A name that every file system accepts."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem)[:40].strip("-.")
    return f"{number:0{len(str(of))}d}-{stem or 'image'}.png"


def _earlier(out: Path, names: set[str]) -> set[str]:
    """The maps of an earlier explanation in `out`. Raises InputError if it is not a folder, or holds something other than an explanation.

    Beside an earlier explanation other files may stay, unless they are in the way of `names`.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out names a folder")
    if not out.exists():
        check_creatable(out)
        return set()
    try:
        found = {name for name in os.listdir(out) if not name.startswith(".")}
        ours = {name for name in found if _is_ours(out / name)}
    except OSError as error:
        raise InputError(f"{out} cannot be read ({error.strerror})", hint="Choose another folder with --out.") from error
    others = sorted(found - ours)
    if in_the_way := [name for name in others if name in names]:
        problems = [f"{out / name} already exists and was not written by this command" for name in in_the_way]
        raise InputError(*problems, hint="Choose another folder with --out.")
    if others and not ours:
        raise InputError(f"{out} holds {others[0]} and no earlier explanation", hint="Choose a new folder with --out.")
    return ours - set(_STARTS)


def _is_ours(path: Path) -> bool:
    """Whether a file begins as this command's do."""
    is_map = _OVERLAY.fullmatch(path.name) is not None
    if not (is_map or path.name in _STARTS) or not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(100)
    if is_map:
        return start[_MADE_BY_AT:].startswith(b"tEXt" + "\0".join(_MADE_BY).encode())
    return start.startswith(_STARTS[path.name])


def _png(image: Image.Image) -> bytes:
    made_by, stream = PngInfo(), io.BytesIO()
    made_by.add_text(*_MADE_BY)
    image.save(stream, "PNG", pnginfo=made_by)
    return stream.getvalue()
