"""The documents say what is: commands, the table of recipe fields, layouts, the Python guide and its example, links.

`python tests/docs/test_docs.py` writes the table of recipe fields anew.
"""

import importlib
import inspect
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import fieldmark
from fieldmark.cli import app, main
from fieldmark.cli.tables import as_yaml
from fieldmark.core.presets import RECIPES
from fieldmark.core.recipe.fields import choices, fields, sections
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.models import device
from fieldmark.studies.search.section import read_search
from fieldmark.studies.study_file import load_study, search_section

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
MANUAL = ROOT / "docs" / "manual"
RESULTS = ROOT / "docs" / "results"
FIELDS, PYTHON, DATA, STUDIES = (MANUAL / name for name in ("recipe.md", "python.md", "data.md", "studies.md"))
EXAMPLE = ROOT / "examples" / "train_birds.py"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

FIRST, LAST = "<!-- fields: written by tests/docs/test_docs.py -->\n", "<!-- end of fields -->\n"
NOT_KEYS = {"train.log", "train.npz", "train.csv", "train.txt", "model.macs", "model.trainable", "train.epoch", "augment.gamma"}
"""What looks like a key and is a file, a figure of summary.json, the mistake in an example of an error, or added by an example."""


def relative(document: Path) -> str:
    """The path of a document in the repository."""
    return str(document.relative_to(ROOT))


def blocks(document: Path, language: str, marked: bool = True) -> list[str]:
    """Fenced code blocks of a language ("" for none), those after a line <!-- tested --> by default."""
    found: list[str] = []
    lines = iter(document.read_text(encoding="utf-8").splitlines(keepends=True))
    before = ""
    for line in lines:
        if line.startswith("```"):
            code = "".join(iter(lambda: next(lines), "```\n"))
            if line == f"```{language}\n" and (before == "<!-- tested -->\n" or not marked):
                found.append(code)
        before = line
    return found


# ---- the README -------------------------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == 1


def test_the_table_of_commands_is_complete():
    named = re.findall(r"^\| `fieldmark (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(name for name in app if not name.startswith("-"))


@pytest.fixture
def beside_photos(birds, tmp_path, monkeypatch):
    """A folder with drawn birds in ./photos as the current one. One thread: several wait for each other where other work goes on."""
    shutil.copytree(birds, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(device, "available_cores", lambda: 1)


@pytest.mark.usefixtures("beside_photos")
def test_the_commands_of_the_readme_work(capsys):
    commands = [line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("fieldmark ")]
    assert commands
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(command, comments=True)[1:])
        assert stop.value.code == 0, f"{command}\n{capsys.readouterr().err}"


# ---- the recipe -------------------------------------------------------------------------------------------------------------------


def fields_table() -> str:
    """Every field of the recipe as Markdown, a table for each section."""
    preset = load_recipe("default").model_dump()
    parts = []
    for section in sections():
        parts += [
            f"### {section}",
            "",
            f"{Recipe.model_fields[section].description[0].upper()}{Recipe.model_fields[section].description[1:]}.",
            "",
        ]
        for choice in (choice for key, choice in choices().items() if key.split(".")[0] == section):
            parts += [f"- `{choice.key}.name={name}`: {model.model_fields['name'].description}" for name, model in choice.variants.items()]
            parts += [""]
        parts += ["| field | type | default | in the recipe `default` | unit | meaning |", "|---|---|---|---|---|---|"]
        for field in (field for field in fields() if field.key.split(".")[0].removesuffix("[]") == section):
            key = f"`{field.key}`" if field.variant is None else f"`{field.key}` ({field.variant})"
            cells = [key, field.type, as_yaml(field.default), _in_preset(preset, field), field.unit or "", field.meaning]
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts += [""]
    return "\n".join(parts)


def _in_preset(preset: dict, field) -> str:
    """The value that the preset gives a field, where it is another than the default."""
    *parents, last = field.key.split(".")
    if field.in_list:
        return ""
    for parent in parents:
        preset = preset[parent]
    if field.variant not in (None, preset.get("name")) or preset[last] == field.default:
        return ""
    return as_yaml(preset[last])


def with_fields(text: str) -> str:
    before, _, rest = text.partition(FIRST)
    return f"{before}{FIRST}\n{fields_table()}{LAST}{rest.partition(LAST)[2]}"


def test_the_table_of_fields_is_up_to_date():
    text = FIELDS.read_text(encoding="utf-8")
    assert text == with_fields(text), "run `python tests/docs/test_docs.py`"


def test_recipes_in_the_documents_load(tmp_path):
    files = [block for document in DOCUMENTS if document != STUDIES for block in blocks(document, "yaml", marked=False)]
    assert files
    for block in files:
        (tmp_path / "recipe.yaml").write_text(block)
        load_recipe(tmp_path / "recipe.yaml")


def test_the_errors_in_the_documents_are_those_that_are_printed(capsys):
    command, *printed = next(block for block in blocks(FIELDS, "text", marked=False) if block.startswith("$ ")).splitlines()
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(command)[2:])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == printed


def test_studies_in_the_documents_load(tmp_path):
    files = blocks(STUDIES, "yaml", marked=False)
    assert len(files) == 5
    for block in files:
        (tmp_path / "study.yaml").write_text(block)
        assert load_study(tmp_path / "study.yaml").seeds
        if "search:" in block:
            base, section, origin = search_section(tmp_path / "study.yaml")
            assert len(read_search(section, base, origin).space.dimensions) == 5


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_key_and_recipe_that_is_named_exists(document):
    text = document.read_text(encoding="utf-8")
    known = {field.key for field in fields()} | set(choices())
    dotted = rf"(?:{'|'.join(sections())})\.[a-z_.0-9]*[a-z_0-9]"
    named = {*re.findall(rf"`({dotted})[`=]", text), *re.findall(rf"(?<=[\s`\"'])({dotted})=", text)}
    assert sorted(named - known - NOT_KEYS) == []
    assert {name for name in re.findall(r"--recipe (\w+)(?![\w./])", text) if name != "NAME"} <= set(RECIPES.names())


# ---- the run folder ---------------------------------------------------------------------------------------------------------------


def test_the_run_folder_is_described_file_by_file():
    text = (MANUAL / "run-folder.md").read_text(encoding="utf-8")
    folder = RunFolder("run")
    files = {str(path.relative_to(folder.path)) for name, path in vars(folder).items() if name != "path"} - {"checkpoints", "predictions"}
    assert {name for name in files if not re.search(rf"^\| `{re.escape(name)}/?`", text, re.MULTILINE)} == set()


# ---- Python -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("beside_photos")
def test_the_python_guide_works():
    names: dict[str, object] = {}
    assert blocks(PYTHON, "python")
    for block in blocks(PYTHON, "python"):
        exec(compile(block, str(PYTHON), "exec"), names)


def test_the_functions_are_listed_with_their_arguments():
    listed = re.findall(r"`fieldmark\.(\w+)\((.*?)\)` \|", PYTHON.read_text(encoding="utf-8"))
    assert {name for name, _ in listed} == {name for name in fieldmark.__all__ if inspect.isfunction(getattr(fieldmark, name))}
    for name, arguments in listed:
        signature = inspect.signature(getattr(fieldmark, name))
        bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        written = str(signature.replace(parameters=bare, return_annotation=signature.empty))[1:-1].replace("'", '"')
        assert arguments == written, name


def test_the_example_works_and_is_the_one_in_the_guide(few_built_in_birds, tmp_path, monkeypatch, capsys):
    assert EXAMPLE.read_text(encoding="utf-8") in blocks(PYTHON, "python", marked=False)
    monkeypatch.chdir(tmp_path)
    tiny = ["model.name=test_efficientnet", "data.size=32", "train.epochs=2", "train.threads=1", "evaluate.resamples=100"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *tiny])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out.startswith("top-1 on 12 test images: ")


# ---- links ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"], ids=relative)
def test_the_files_of_the_package_that_are_named_exist(document):
    text, package = document.read_text(encoding="utf-8"), ROOT / "src" / "fieldmark"
    folders = "|".join(path.name for path in package.iterdir() if path.is_dir())
    named = set(re.findall(rf"`((?:{folders})/[\w/]*(?:\.\w+)?)`", text)) - set(re.findall(r"^New file `(.+)`:$", text, re.MULTILINE))
    assert [name for name in sorted(named) if not (package / name).exists()] == []
    others = set(re.findall(r"`((?:tests|benchmarks|docs)/[\w/]+(?:\.\w+)?)`", text))
    assert [name for name in sorted(others) if not (ROOT / name).exists()] == []


# ---- results ----------------------------------------------------------------------------------------------------------------------


def test_results_on_cars_are_marked_until_they_are_measured_anew():
    mark = "was measured on an earlier copy of the photographs whose red and blue channels were exchanged; to be measured anew"
    marks = {path.name: path.read_text(encoding="utf-8").count(mark) for path in [*RESULTS.glob("*.md"), ROOT / "docs" / "tried.md"]}
    marked = {name for name, count in marks.items() if count}
    assert marked == {"cars.md", "ensembles.md", "studies.md", "tried.md"} and max(marks.values()) == 1


# ---- the table of layouts -----------------------------------------------------------------------------------------------------------


def documented_commands() -> dict[str, list[str]]:
    """Layout -> the command of docs/data.md, in words."""
    rows = re.findall(r"^\| [^|]+ \| `([\w-]+)` \| `(fieldmark train [^`]+)`[^|`]*\|$", DATA.read_text(encoding="utf-8"), re.MULTILINE)
    return {layout: shlex.split(command) for layout, command in rows}


def test_the_table_of_layouts_is_complete():
    from fieldmark.datasets.layouts import LAYOUTS

    commands = documented_commands()
    assert set(commands) == set(LAYOUTS)
    assert {layout: command[2] for layout, command in commands.items()} == {name: layout.example for name, layout in LAYOUTS.items()}


@pytest.mark.parametrize("layout", sorted(documented_commands()))
def test_the_command_of_each_layout_reads_it(layout, tmp_path, request):
    """The documented settings, on the miniature set of that layout in place of the real one."""
    from fieldmark.core.console import Console
    from fieldmark.datasets.loading import find_data, load_data

    _, _, data, *settings = documented_commands()[layout]
    splits: list[str] = []
    if layout == "birds":
        request.getfixturevalue("few_built_in_birds")
    else:
        miniature = importlib.import_module(f"miniatures.{layout.replace('-', '_')}").MINIATURE
        data = miniature.write(tmp_path)
        splits = [] if "val" in miniature.counts else ["data.val_fraction=0.3"]
    loaded = load_data(find_data(data, load_recipe("default", [*settings, *splits]).data, Console(quiet=True)), Console(quiet=True))
    assert loaded.dataset.layout == layout and not loaded.content.problems
    assert all(len(loaded.rows(split)) for split in ("train", "val", "test"))


def test_the_corruptions_are_all_named():
    from fieldmark.datasets.corruptions import CORRUPTIONS

    assert all(f"`{name}`" in DATA.read_text(encoding="utf-8") for name in CORRUPTIONS)


if __name__ == "__main__":
    FIELDS.write_text(with_fields(FIELDS.read_text(encoding="utf-8")), encoding="utf-8")
