"""Recipes and studies by name: those that come with Fieldmark, and files of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest

_LARGEST_FILE = 1_000_000


@dataclass(frozen=True)
class Source:
    """The text of a preset or a file; `origin` is what error messages call it, `folder` where a file is."""

    text: str
    origin: str
    folder: Path | None

    def beside(self, name: str) -> str | Path:
        """What `name` means in this text: a preset, or a file relative to this one."""
        if not is_file_name(name):
            return name
        return self.folder / name if self.folder is not None else Path(name)


@dataclass(frozen=True)
class Preset:
    """One of them; `title` says in one line what it is, `text` is its YAML."""

    name: str
    title: str
    text: str


@dataclass(frozen=True)
class Presets:
    """The YAML files of one kind under presets/, each beginning with a comment: `# name: what it is`."""

    kind: str
    plural: str

    def names(self) -> list[str]:
        folder = resources.files("fieldmark") / "presets" / self.plural
        return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))

    def text(self, name: str) -> str:
        """The YAML of a preset, its header of comments included. Raises InputError for an unknown name."""
        names = self.names()
        if name not in names:
            raise InputError(
                f"there is no {self.kind} named {name!r}{suggest(name, names)}", hint=f"{self.plural.capitalize()}: {', '.join(names)}"
            )
        return (resources.files("fieldmark") / "presets" / self.plural / f"{name}.yaml").read_text(encoding="utf-8")

    def title(self, name: str) -> str:
        """What a preset is, in one line."""
        return self.text(name).splitlines()[0].partition(": ")[2]

    def listed(self, name: str | None = None) -> tuple[Preset, ...]:
        """All presets, or only the one of a name. Raises InputError for an unknown name."""
        return tuple(Preset(each, self.title(each), self.text(each)) for each in (self.names() if name is None else [name]))

    def read(self, name: str | Path) -> Source:
        """A preset, or a file if `name` has a slash or ends in .yaml. Raises InputError if there is none, or it cannot be read."""
        if not is_file_name(name):
            return Source(self.text(str(name)), f"{self.kind} {name}", None)
        path = Path(name)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise InputError(f"{path} is too large to be a {self.kind} ({path.stat().st_size:,} bytes)")
            return Source(path.read_text(encoding="utf-8"), str(path), path.parent)
        except FileNotFoundError:
            hint = f"{self.plural.capitalize()} that come with Fieldmark: {', '.join(self.names())}"
            raise InputError(f"there is no {self.kind} file {path}", hint=hint) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the {self.kind} file {path} cannot be read: {error}") from None


RECIPES = Presets("recipe", "recipes")
STUDIES = Presets("study", "studies")


def is_file_name(name: str | Path) -> bool:
    return isinstance(name, Path) or name.endswith((".yaml", ".yml")) or "/" in name
