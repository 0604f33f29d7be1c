"""A set of bird images on disk: class folders, and a table of boxes, genera and individuals beside them."""

from __future__ import annotations

import csv
import multiprocessing
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

from fieldmark.core import randomness
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error
from fieldmark.core.processor import available_cores
from fieldmark.datasets.birds.scene import individual, photograph
from fieldmark.datasets.birds.sheet import contact_sheet
from fieldmark.datasets.birds.species import SPECIES, UNSEEN_SPECIES, Species

VERSION = "2"  # of the drawings: raise it whenever they change
TABLE = "birds.csv"
SHEET = "species.jpg"
PER_INDIVIDUAL = 3
"""Images of one bird, at most."""


@dataclass(frozen=True)
class Row:
    """A line of birds.csv; the box is in pixels."""

    path: str
    split: str
    species: str
    genus: str
    individual: str
    plumage: str
    left: int
    top: int
    width: int
    height: int


def write_birds(
    root: Path,
    species: int = len(SPECIES),
    per_class: int = 180,
    size: int = 96,
    seed: int = 0,
    processes: int | None = None,
    console: Console | None = None,
) -> None:
    """Draw birds into root/{train,val,test}/<species>/<bird>-<image>.png, each size x size RGB.

    Of every species' birds a fifth goes to test and a tenth to val, at least one each; all images of one bird are in one split. The first
    species are three each of one genus. Beside them, root/unseen holds a sixth as many images each of species that are in no split,
    root/birds.csv says of every image which bird it shows and where, and root/species.jpg shows one of every species. The same arguments
    give the same pixels.

    Raises InputError if the numbers are impossible or `root` cannot be written.
    """
    if not 2 <= species <= len(SPECIES):
        raise InputError(f"there are no {species} species of birds", hint=f"From 2 to {len(SPECIES)} can be drawn.")
    if per_class < 3 or size < 32:
        raise InputError(f"cannot draw {per_class} birds per species of {size} pixels", hint="At least 3 birds of 32 pixels are needed.")
    unseen = [each for each in UNSEEN_SPECIES if each.genus in {seen.genus for seen in SPECIES[:species]}]
    birds = [bird for each in SPECIES[:species] for bird in _birds(each, per_class, ("test", "val", "train"))]
    birds += [bird for each in unseen for bird in _birds(each, max(per_class // 6, 1), ("unseen",))]
    try:
        for folder in {(bird.split, bird.species.name) for bird in birds}:
            root.joinpath(*folder).mkdir(parents=True, exist_ok=True)
        work = partial(_draw, root, size, seed)
        processes = min(processes or available_cores(), len(birds))
        with (console or Console(quiet=True)).progress("drawing birds", "birds") as advance:
            rows: list[Row] = []
            for done, drawn in enumerate(_map(work, birds, processes), 1):
                rows += drawn
                advance(done, len(birds))
        with (root / TABLE).open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(field.name for field in fields(Row))
            table.writerows(astuple(row) for row in rows)
        contact_sheet(seed=seed).save(root / SHEET, quality=85)
    except OSError as error:
        raise storage_error(error, root / "train") from error


def birds_folder(cache_dir: Path | None = None, console: Console | None = None) -> Path:
    """The folder of the built-in set in the cache, drawn there the first time."""
    if cache_dir is None:
        from fieldmark.datasets.pixel_cache import default_cache_dir

        cache_dir = default_cache_dir()
    folder = cache_dir / "birds" / VERSION
    if folder.is_dir():
        return folder
    try:
        draw_folder(folder, console=console)
    except InputError:
        if not folder.is_dir():  # otherwise another process was faster, and drew the same
            raise
    return folder


def draw_folder(
    folder: Path,
    species: int = len(SPECIES),
    per_class: int = 180,
    size: int = 96,
    seed: int = 0,
    console: Console | None = None,
) -> None:
    """`write_birds` into a new folder, which is there when all are drawn. Raises InputError also if it exists."""
    exists = InputError(f"{folder} already exists", hint="Choose another folder.")
    if folder.exists():
        raise exists
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        unfinished.mkdir(parents=True)
        write_birds(unfinished, species, per_class, size, seed, console=console)
        if folder.exists():
            raise exists
        os.rename(unfinished, folder)
    except OSError as error:
        raise storage_error(error, unfinished) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@dataclass(frozen=True)
class _Bird:
    """One individual to be drawn."""

    species: Species
    split: str
    number: int
    images: int


def _birds(species: Species, count: int, splits: tuple[str, ...]) -> Iterator[_Bird]:
    """Birds with `count` images in all; the first ones go to the first splits, the rest to the last."""
    shares = [max(1, round(count * share)) for share in (0.2, 0.1)][: len(splits) - 1]
    number = 0
    for split, images in zip(splits, [*shares, count - sum(shares)], strict=True):
        for first in range(0, images, PER_INDIVIDUAL):
            yield _Bird(species, split, number, min(PER_INDIVIDUAL, images - first))
            number += 1


def _draw(root: Path, size: int, seed: int, bird: _Bird) -> list[Row]:
    species, name = bird.species, f"{bird.number:03d}"
    seen = individual(species.look, randomness.key(seed, species.name, name))
    rows = []
    for number in range(bird.images):
        photo = photograph(seen, size, randomness.key(seed, species.name, name, number))
        path = f"{bird.split}/{species.name}/{name}-{number}.png"
        photo.image.save(root / path, compress_level=1)
        rows.append(Row(path, bird.split, species.name, species.genus, f"{species.name} {name}", seen.plumage, *photo.box))
    return rows


def _map(work: partial[list[Row]], birds: list[_Bird], processes: int) -> Iterator[list[Row]]:
    if processes == 1 or len(birds) < 40:
        yield from map(work, birds)
        return
    with _pool(processes) as pool:
        yield from pool.map(work, birds, chunksize=4)


def _pool(processes: int) -> Executor:
    """Processes on Linux; threads elsewhere, where a process would import the caller's main module, perhaps a script without a guard."""
    if sys.platform == "linux":
        return ProcessPoolExecutor(processes, multiprocessing.get_context("fork"))
    return ThreadPoolExecutor(processes)
