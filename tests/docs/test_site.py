"""The site in docs/: its pages on the source and the commands say what is, and it builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import command_help  # noqa: E402
import source_files  # noqa: E402

import fieldmark  # noqa: E402
from fieldmark.cli import app  # noqa: E402

PACKAGE = source_files.PACKAGE
LONGEST = 160
"""Characters of the longest line of a file on the architecture page."""


@pytest.mark.parametrize("folder", list(source_files.folders()), ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_every_file_says_in_one_short_sentence_what_it_is(folder):
    wrong = {path.name: said for path in source_files.files(folder) if not 0 < len(said := source_files.description(path)) <= LONGEST}
    assert wrong == {}


def test_the_architecture_page_has_every_module_and_preset():
    described = source_files.described()
    modules = [path for path in PACKAGE.rglob("*.py") if source_files.has_content(path)]
    presets = list((PACKAGE / "presets").rglob("*.yaml"))
    assert modules and presets
    for path in [*modules, *presets]:
        _, _, section = described.partition(f"### {path.parent.relative_to(PACKAGE.parent)}/\n")
        assert f"| `{path.name}` | " in section.partition("\n### ")[0], path


def test_the_layers_are_those_of_the_import_contract():
    flat = [name for layer in source_files.layers() for name in layer]
    assert flat[:2] == ["cli", "api"] and flat[-1] == "core"
    assert all((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file() for name in flat)
    rows = [line.split(" | ") for line in source_files.layers_table().splitlines()[2:]]
    assert all(about for _, about, _ in rows), "every package has a docstring"
    torch = [may.removesuffix(" |") for *_, may in rows]
    line = torch.index("never")
    assert torch == ["may"] * line + ["never"] * (len(torch) - line), "below one line nothing imports torch"


def test_the_drawing_is_of_files_that_exist_in_the_colours_of_the_contract():
    drawing = (ROOT / "docs" / "images" / "data-flow.svg").read_text(encoding="utf-8")
    boxes = re.findall(r'<rect class="(\w+)"[^>]*/>\s*<text class="name"[^>]*>(.*?)</text>\s*<text class="path"[^>]*>(.*?)</text>', drawing)
    assert len(boxes) == drawing.count('class="path"') > 12
    for colour, name, path in boxes:
        assert (PACKAGE / path).exists(), name
        assert colour == "any" or (colour == "free") == (path.partition("/")[0] in source_files.torch_free()), name


def test_every_command_is_in_the_reference():
    commands = list(command_help.commands(app))
    assert {words[0] for words in commands} == {name for name in app if not name.startswith("-")}
    assert ("study", "run") in commands
    assert "--recipe" in command_help.help_of(("train",))
    assert all(len(line) <= command_help.WIDTH for words in commands for line in command_help.help_of(words).splitlines())


def test_every_public_name_is_in_the_api_reference():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.\. auto(?:function|class):: fieldmark\.(\w+)$", text, re.MULTILINE)) == set(fieldmark.__all__)


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_needs_no_network(tmp_path):
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", ROOT / "docs", tmp_path / "site"]
    done = subprocess.run([*build, "--doctree-dir", tmp_path / "doctrees"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert (tmp_path / "site" / "index.html") in pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not [tag for tag in ('src="http', 'rel="stylesheet" type="text/css" href="http', "@import url(http") if tag in text], page
