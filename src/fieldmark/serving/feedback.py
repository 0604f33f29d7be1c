"""Images whose answers users corrected: folders of classes, and a table that `fieldmark train` reads."""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from fieldmark.core.errors import InputError
from fieldmark.core.files import check_creatable, whole_file
from fieldmark.runtime.decode import unloaded

TABLE = "feedback.csv"
_COLUMNS = ("path", "label", "answer", "model", "time")
_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}
_ENDINGS |= {"AVIF": ".avif", "HEIF": ".heic"}
_NOT_IN_FOLDERS = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_LONGEST = 120
"""Letters of the name of a class."""


@dataclass(frozen=True)
class Feedback:
    """A folder with one folder for each class, and feedback.csv. An image is kept once: the last correction of it counts."""

    folder: Path
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def at(cls, folder: Path) -> Feedback:
        """Raises InputError if nothing can be written there."""
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder", hint="--feedback names a folder that corrected images are kept in.")
        check_creatable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def keep(self, data: bytes, label: str, answer: str, model: str) -> str:
        """The path within the folder of an image that can be read, from now on one of the class `label`.

        Raises ValueError if no class can have this name.
        """
        name = label.strip()
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise ValueError(f"a class has a name of 1 to {_LONGEST} letters that can be printed")
        image = f"{hashlib.sha256(data).hexdigest()[:24]}{_ENDINGS.get(unloaded(data).format or '', '')}"
        path = f"{_folder_of(name)}/{image}"
        with self._lock:
            rows = self._rows()
            for earlier in [row for row in rows if row["path"].rpartition("/")[2] == image and row["path"] != path]:
                (self.folder / earlier["path"]).unlink(missing_ok=True)
            rows = [row for row in rows if row["path"].rpartition("/")[2] != image]
            time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            rows.append(dict(zip(_COLUMNS, (path, name, answer, model, time), strict=True)))
            (self.folder / path).parent.mkdir(exist_ok=True)
            with whole_file(self.folder / path) as temporary:
                temporary.write_bytes(data)
            with whole_file(self.folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, _COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        return path

    def _rows(self) -> list[dict[str, str]]:
        if not (self.folder / TABLE).is_file():
            return []
        with (self.folder / TABLE).open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))


def _folder_of(label: str) -> str:
    """A folder's name that every file system accepts and no program takes for anything else; the table has the class's own."""
    name = _NOT_IN_FOLDERS.sub("_", label).strip(". ")
    return name or "_"
