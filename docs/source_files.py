"""The Sphinx directives `source-files` and `layers`: the package and its import contracts, described from the source itself.

Nothing is written down twice: a module's line is the first sentence of its docstring, a preset's its title, a template's its first comment.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "fieldmark"
COMMENTS = {".yaml": r"# [\w-]+: (.+)\n", ".j2": r"\{# (.+?) #\}", ".css": r"/\* (.+?) \*/"}
COMMENTS |= dict.fromkeys([".mjs", ".cpp"], r"// (.+?)[.:]?\n")
"""Suffix of a file -> the comment at its beginning that says what it is."""


def first_sentence(text: str) -> str:
    """The first sentence of the first line of a text."""
    return re.split(r"(?<=[.!?]) (?=[A-Z])", text.strip().partition("\n")[0])[0]


def description(path: Path) -> str:
    """What a file says of itself in its first sentence; "" if it says nothing."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return first_sentence(ast.get_docstring(ast.parse(text)) or "")
    found = re.match(COMMENTS[path.suffix], text)
    return first_sentence(found[1]) if found else ""


def has_content(path: Path) -> bool:
    """False for an __init__.py that holds a docstring or nothing."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    return path.name != "__init__.py" or any(not isinstance(statement, ast.Expr) for statement in statements)


def files(folder: Path) -> list[Path]:
    """The files of one folder that get a line, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in COMMENTS or (path.suffix == ".py" and (path.name != "__init__.py" or has_content(path)))
    )


def contracts() -> list[dict]:
    """The import contracts of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def layers() -> list[list[str]]:
    """The packages and modules of each layer, the top one first, without the prefix "fieldmark."."""
    contract = next(contract for contract in contracts() if contract["type"] == "layers")
    return [[name.strip().strip("()").removeprefix("fieldmark.") for name in re.split(r"[|:]", layer)] for layer in contract["layers"]]


def torch_free() -> set[str]:
    """The packages and modules that a contract keeps free of torch, without the prefix "fieldmark."."""
    contract = next(contract for contract in contracts() if "torch" in contract.get("forbidden_modules", ()))
    return {name.removeprefix("fieldmark.") for name in contract["source_modules"]}


def layers_table() -> str:
    """The layers from top to bottom, as Markdown, with what each is and whether it may import torch."""
    free, rows = torch_free(), []
    for layer in layers():
        names = ", ".join(f"`{name}`" for name in layer)
        modules = (PACKAGE / name / "__init__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py" for name in layer)
        about = " ".join(map(description, modules))
        rows.append(f"| {names} | {about} | {'never' if free.issuperset(layer) else 'may'} |")
    return "\n".join(["| layer | what it is | imports torch |", "|---|---|---|", *rows])


def folders() -> Iterator[Path]:
    """The package, then every folder in it that has files with a line: in the order of the layers, then by name."""
    rank = {name: place for place, layer in enumerate(layers()) for name in layer}

    def order(folder: Path) -> tuple[int, str]:
        parts = folder.relative_to(PACKAGE).parts
        return (rank.get(parts[0], len(rank)) if parts else -1, str(folder))

    yield from sorted({path.parent for path in PACKAGE.rglob("*") if path.suffix in {".py", *COMMENTS}}, key=order)


def described() -> str:
    """Every folder of the package with its files, as Markdown: a heading and a table for each folder."""
    parts: list[str] = []
    for folder in folders():
        about = description(folder / "__init__.py") if (folder / "__init__.py").exists() else ""
        rows = [f"| `{path.name}` | {description(path)} |" for path in files(folder)]
        if not rows and not about:
            continue
        parts += [f"### {folder.relative_to(PACKAGE.parent)}/", "", about, ""]
        parts += ["| file | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(parts)


class SourceFiles(SphinxDirective):
    """One line per file of src/fieldmark, with a heading for each folder."""

    def run(self) -> list[nodes.Node]:
        """The parsed Markdown; the page is built again when a file of the package changes."""
        for folder in folders():
            for path in files(folder):
                self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(described(), allow_section_headings=True)


class Layers(SphinxDirective):
    """The layers of the import contract, from top to bottom, with the line below which nothing imports torch."""

    def run(self) -> list[nodes.Node]:
        """A table."""
        self.env.note_dependency(str(ROOT / "pyproject.toml"))
        return self.parse_text_to_nodes(layers_table())


class Contracts(SphinxDirective):
    """The import contracts other than that of the layers."""

    def run(self) -> list[nodes.Node]:
        """A list."""
        self.env.note_dependency(str(ROOT / "pyproject.toml"))
        return self.parse_text_to_nodes("\n".join(f"- {contract['name']}" for contract in contracts() if contract["type"] != "layers"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("source-files", SourceFiles)
    app.add_directive("layers", Layers)
    app.add_directive("contracts", Contracts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
