"""The images to answer for: finding them, and decoding them ahead of the network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fieldmark.answering.in_memory import Source, each_of, encoded, opened
from fieldmark.answering.patterns import matches
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.names import shown
from fieldmark.core.processor import available_cores
from fieldmark.datasets.image_files import PassedOver, images_below
from fieldmark.datasets.layouts.location import nearest_path
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

_NAMED = 10

Given = TypeVar("Given")
Decoded = TypeVar("Decoded")


def find_images(sources: str | Path | Sequence[str | Path], passed_over: PassedOver | None = None) -> Iterator[Path]:
    """Files as they are named, the images in folders, and what patterns match, each in sorted order.

    A name with `*`, `?` or `[ ]` is that of a file or folder if there is one, and otherwise a pattern; `**` stands for any number of
    folders. `passed_over` learns what else the folders held, as the images are drawn. An inner folder that cannot be read is among them, as
    an image that cannot be read is.

    Raises InputError naming every source in which nothing is found, before anything is predicted.
    """
    named = [sources] if isinstance(sources, str | Path) else list(sources)
    _refuse_empty(named)
    found = [(source, matches(source)) for source in named]
    if not found:
        raise InputError("no images are named", hint="Name files, folders or patterns, such as photo.jpg, photos or 'photos/*.jpg'.")
    if missing := [source for source, paths in found if not paths]:
        problems = (f"there is no file or folder {shown(source)}, and no file matches it as a pattern" for source in missing)
        near = nearest_path(Path(os.path.abspath(os.path.expanduser(missing[0]))), files=True)
        raise InputError(*problems, hint=near if near.startswith("Did you mean") else None)
    empty = [source for source, paths in found if next(_images(paths, PassedOver(keeps_unreadable=True)), None) is None]
    if empty:
        known = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise InputError(*(f"there are no images in {shown(source)}" for source in empty), hint=f"An image's name ends in {known}.")
    noted = PassedOver(keeps_unreadable=True) if passed_over is None else passed_over
    return (path for _, paths in found for path in _images(paths, noted))


def images_in(sources: Source | Iterable[Source], passed_over: PassedOver | None = None) -> Iterator[Path | bytes]:
    """As find_images, and images in memory as bytes, in the order of the sources. Raises InputError also for what is no image."""
    given = [opened(source, number) for number, source in enumerate(each_of(sources), 1)]
    named = [source for source in given if isinstance(source, str | Path)]
    if named or not given:
        find_images(named)  # all problems at once
    return (
        image for source in given for image in (find_images(source, passed_over) if isinstance(source, str | Path) else [encoded(source)])
    )


def streamed_images(sources: Source | Iterable[Source]) -> Iterator[Path | bytes]:
    """As images_in, but a source is drawn, and looked at, only when it is its turn, so that there may be any number of them.

    A name for which there is no file is the path of one, which cannot be read. Raises InputError at the first that is no image.
    """
    for number, source in enumerate(each_of(sources), 1):
        given = opened(source, number)
        if isinstance(given, str | Path):
            _refuse_empty([given])
            yield from _images(matches(given) or [Path(given)], PassedOver(keeps_unreadable=True))
        else:
            yield encoded(given)


def without_answer(sources: Sequence[str | Path], problems: Mapping[str, str]) -> CheckFailed | None:
    """What to say of files that were named themselves, and of inner folders, that could not be read.

    `problems` are by the path, as `readable` returns it.
    """
    named = dict.fromkeys([*(readable(Path(source)) for source in sources), *(path for path in problems if os.path.isdir(path))])
    failed = [f"{path}: {problems[path]}" for path in named if path in problems]
    more = [f"… and {len(failed) - _NAMED:,} more"] if len(failed) > _NAMED else []
    return CheckFailed(*failed[:_NAMED], *more) if failed else None


def crossed_off(images: Iterator[Given], paths: set[str]) -> Iterator[Given]:
    """The images; the absolute path of each that has one is removed from `paths` as it is drawn."""
    for image in images:
        if isinstance(image, Path):
            paths.discard(os.path.abspath(image))
        yield image


def readable(path: Path) -> str:
    """Its name as text, whatever its bytes are."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def decoded_in_chunks(
    images: Iterable[Given], decode: Callable[[Given], Decoded], size: int
) -> Iterator[tuple[list[Given], list[Decoded]]]:
    """The images and what `decode` returns for each, `size` at a time; threads decode no more than two chunks ahead."""
    waiting: deque[tuple[Given, Future[Decoded]]] = deque()
    iterator = iter(images)
    with ThreadPoolExecutor(available_cores()) as pool:
        while True:
            waiting.extend((image, pool.submit(decode, image)) for image in islice(iterator, 2 * size - len(waiting)))
            if not waiting:
                return
            ready = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            yield [image for image, _ in ready], [future.result() for _, future in ready]


def _images(paths: Sequence[Path], passed_over: PassedOver) -> Iterator[Path]:
    return (image for path in paths for image in (images_below(path, passed_over) if os.path.isdir(path) else [path]))


def _refuse_empty(named: Sequence[str | Path]) -> None:
    if any(isinstance(source, str) and not source.strip() for source in named):
        raise InputError("the name of an image or folder is empty", hint="Was a variable meant that is not set?")
