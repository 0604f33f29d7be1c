"""The images to answer for: finding them, and decoding them ahead of the network."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fieldmark.core.errors import InputError
from fieldmark.core.processor import available_cores
from fieldmark.runtime.decode import IMAGE_EXTENSIONS

Given = TypeVar("Given")
Decoded = TypeVar("Decoded")


def find_images(sources: str | Path | Sequence[str | Path]) -> Iterator[Path]:
    """Files as they are named, images in folders (hidden ones passed over) and matches of globs, each in sorted order.

    Raises InputError naming every source in which nothing is found, before anything is predicted.
    """
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    missing = [str(source) for source in listed if not Path(source).exists() and not any(glob.iglob(str(source), recursive=True))]
    if missing or not listed:
        raise InputError(*(f"there is no file or folder {source}, and no file matches it as a pattern" for source in missing or ["(none)"]))
    empty = [source for source in listed if next(_expand(Path(source)), None) is None]
    if empty:
        known = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise InputError(*(f"there are no images in {source}" for source in empty), hint=f"An image's name ends in {known}.")
    return (path for source in listed for path in _expand(Path(source)))


def images_in(sources: str | Path | bytes | Sequence[str | Path | bytes]) -> Iterator[Path | bytes]:
    """As find_images, and images given as bytes, in the order of the sources."""
    listed = [sources] if isinstance(sources, str | Path | bytes) else list(sources)
    named = [source for source in listed if not isinstance(source, bytes)]
    if named or not listed:
        find_images(named)  # all problems at once
    return (image for source in listed for image in ([source] if isinstance(source, bytes) else find_images(source)))


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


def _expand(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from (path for path in _walk(source) if path.suffix.lower() in IMAGE_EXTENSIONS)
    elif source.exists() or source.is_symlink():
        yield source
    else:
        for match in sorted(glob.iglob(str(source), recursive=True)):
            yield from _expand(Path(match))


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry
