"""The members of a tar file, with what a damaged or hostile one would do to tarfile found out."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

_LARGEST_HEADER = 2**20
"""In bytes. A header may say that gigabytes follow which belong to it."""
_BLOCK = 512


class DamagedTar(Exception):
    """What is wrong with it, as the rest of "it …"."""


class _Careful:
    """The file that tarfile reads headers from; it refuses to read much at once."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._file.read(size)


def members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Every member of an uncompressed tar in the order of the file, links, devices and folders included; only headers are read.

    The caller may seek and read `file` in between. Raises DamagedTar, also if the tar is cut short.
    """
    number, end = 0, 0
    try:
        with tarfile.open(fileobj=cast(io.BufferedReader, _Careful(file)), mode="r:") as tar:
            while (member := tar.next()) is not None:
                number += 1
                if member.size < 0 or member.offset_data <= member.offset or tar.offset < member.offset_data:
                    raise DamagedTar(f"is damaged at member {number:,}")
                cast(Any, tar).members = []  # else it keeps them all
                end = tar.offset
                yield member
            file.seek(end)
            block = file.read(_BLOCK)
    except DamagedTar:
        raise
    except EOFError as error:
        raise DamagedTar(f"is cut short after member {number:,}") from error
    except Exception as error:  # tarfile raises almost anything on damaged headers
        cut = "unexpected end" in str(error) or "empty file" in str(error)
        raise DamagedTar(f"is {'cut short' if cut else 'no tar file, or damaged'} after member {number:,}") from error
    if len(block) < _BLOCK:
        raise DamagedTar(f"is cut short after member {number:,}: the mark at its end is missing")
    if block != bytes(_BLOCK):
        raise DamagedTar(f"is damaged after member {number:,}")
