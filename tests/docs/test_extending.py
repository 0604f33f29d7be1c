"""The examples of docs/extending.md: all are applied to one copy of the package, and their checks run in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fieldmark

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"


def new_files(text: str) -> list[tuple[str, str]]:
    """Path in the package and content of every file that the page adds."""
    return re.findall(r"^New file `([^`]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def changes(text: str) -> list[tuple[str, str, str]]:
    """Path, old lines and new lines of every hunk of every diff."""
    found = []
    for path, hunks in re.findall(r"^```diff\n--- (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for hunk in hunks.split("@@\n")[1:]:
            lines = hunk.splitlines(keepends=True)
            old, new = ("".join(line[1:] or "\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
            found.append((path, old, new))
    return found


def apply(text: str, package: Path) -> None:
    for name, content in new_files(text):
        assert not (package / name).exists()
        (package / name).write_text(content, encoding="utf-8")
    for name, old, new in changes(text):
        before = (package / name).read_text(encoding="utf-8")
        assert before.count(old) == 1, f"docs/extending.md changes {name}, where these lines are not found once:\n{old}"
        (package / name).write_text(before.replace(old, new), encoding="utf-8")


def test_the_examples_work(tmp_path, birds):
    text = PAGE.read_text(encoding="utf-8")
    assert new_files(text) and changes(text)
    package = tmp_path / "src" / "fieldmark"
    shutil.copytree(Path(fieldmark.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    apply(text, package)
    here = tmp_path / "here"
    shutil.copytree(birds, here / "photos")
    checks = re.findall(r"^<!-- tested -->\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(checks) == 6
    script = f"import fieldmark\nassert fieldmark.__file__.startswith({str(package)!r})\n" + "\n".join(checks)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(package.parent), "FIELDMARK_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
