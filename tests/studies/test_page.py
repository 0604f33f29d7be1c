from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import CHROMIUM, Browser
from elements import Page
from synthetic import branched, independent, ladder, synthetic_study

from fieldmark.studies.analysis import study_table
from fieldmark.studies.page import write_page
from fieldmark.studies.plan import Rung, StudyPlan
from fieldmark.studies.results import read_results
from fieldmark.studies.table import StudyTable
from records import a_manifest

HOSTILE = ("<script>alert(1)</script>", "\"a\" & 'b' <img src=x onerror=alert(1)>", "{{ 7 * 7 }} \u202eevil " + "very" * 40)


def written(plan: StudyPlan) -> tuple[StudyTable, Page]:
    results = read_results(plan)
    table = study_table(plan, results)
    return table, Page(write_page(plan, table, results).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    """A ladder with a run that failed and one that has not begun."""
    made = synthetic_study(tmp_path_factory.mktemp("study") / "a study", ladder(2), [60, 60.5, 85], images=300)
    dataset = made.datasets[0]
    a_manifest(status="failed", reason="no space <left>").write(made.run_path(dataset, made.rungs[1], 0) / "manifest.json")
    shutil.rmtree(made.run_path(dataset, made.rungs[2], 2))
    return made


@pytest.fixture(scope="module")
def page(plan: StudyPlan) -> tuple[StudyTable, Page]:
    return written(plan)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, and names that would be code."""
    folder = tmp_path_factory.mktemp("hostile")
    plain = synthetic_study(folder, independent(3), [60, 61, 70, 59], images=60, datasets=("cars", "birds"), arrangement="independent")
    results = read_results(plain)
    names = dict(zip((rung.name for rung in plain.rungs[1:]), HOSTILE, strict=True))

    def renamed(rung: Rung) -> Rung:
        return replace(rung, name=names.get(rung.name, rung.name))

    outcomes = tuple(replace(outcome, rung=renamed(outcome.rung)) for outcome in results.outcomes)
    results = replace(results, outcomes=outcomes)
    plan = replace(plain, title="<b>title</b>", name="<i>name", rungs=tuple(map(renamed, plain.rungs)))
    return write_page(plan, study_table(plan, results), results)


def asks_for_nothing(page: Page) -> bool:
    """Whether no script is there, and every address is within the page or names a file beside it."""
    asking = {"src", "srcset", "poster", "action", "data", "background"}
    links = [given["href"] for tag, given in page.elements if "href" in given and tag != "use"]
    return (
        not any(name in asking or name.startswith("on") for _, given in page.elements for name in given)
        and not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "base", "form", "img"}
        and all(re.fullmatch(r"data:,|runs/[^:]*report\.html", link) for link in links)
        and re.findall(r"url\((?!#)|@import", page.html) == []
    )


def test_the_answer_comes_first(page: tuple[StudyTable, Page]) -> None:
    table, shown = page
    found = table.datasets[0]
    heading = re.search(r"<h1>(.*?)</h1>", shown.html)
    assert heading is not None and heading[1] == found.conclusions.headline == "Of 2 changes, 1 helps significantly"
    assert shown.text.index(found.conclusions.answer) < shown.text.index("Accuracies and gains")
    assert "Runs 7 of 9 Recipes 3 Seeds 3 Datasets 1 Arranged as ladder" in shown.text
    assert found.chosen is not None and found.chosen.measured is not None
    noise, smallest = found.sensitivity.noise, found.sensitivity.smallest
    assert noise is not None and smallest is not None
    assert f"Chosen on validation {found.chosen.measured.test.mean:.1f} %" in shown.text
    assert f"Noise ± {noise:.2f} points" in shown.text and f"Smallest gain {smallest:.1f} points" in shown.text


def test_every_rung_has_its_row_and_every_run_its_report(plan: StudyPlan, page: tuple[StudyTable, Page]) -> None:
    table, shown = page
    for row in table.datasets[0].rows:
        assert row.measured is not None
        values = f"{row.number} {row.name}{'chosen' if row is table.datasets[0].chosen else ''}"
        assert values in shown.text and f"{row.measured.test.mean:.1f} ± {row.measured.test.sd:.1f}" in shown.text
        assert row.over_base is None or str(row.over_base) in shown.text
    links = [given["href"] for given in shown.all("a")]
    assert len(links) == 8 and all((plan.folder / unquote(link)).is_file() for link in links)
    assert "failed: no space <left>" in shown.text and "waiting: not begun" in shown.text and "7 finished, 2 not in the table" in shown.text
    for note in table.datasets[0].conclusions.notes:
        assert note in shown.text


def test_settings_and_commands(plan: StudyPlan, page: tuple[StudyTable, Page]) -> None:
    shown = page[1]
    assert 'random crop on base: augment.crop.name "random-resized" → "padded"' in shown.text
    assert "flips on random crop: augment.flip 0.5 → 0.25" in shown.text
    assert "fieldmark study run augment /data/cars --seeds 3 --out another-folder" in shown.text and "Quick form" not in shown.text
    assert "fieldmark train /data/cars --recipe runs/cars/base/seed-0/recipe.yaml" in shown.text
    assert "crop: name: random-resized" in shown.text, "the recipe of the base"


def test_a_ladder_with_side_branches_and_stages_in_its_quick_form(tmp_path: Path) -> None:
    staged = {"train.epochs": 8, "stages": [{"epochs": 4, "trainable": ["head"]}, {}]}
    rungs = (*branched(2, aside="random crop"), Rung("in stages", {"on": "base", **staged}, "base"))
    table, shown = written(synthetic_study(tmp_path, rungs, [60, 61, 62, 63, 64], images=60, quick=True))
    assert shown.text.index("Quick form: a rehearsal, not a measurement.") < shown.text.index(table.datasets[0].conclusions.headline)
    assert "fieldmark study run augment /data/cars --quick --seeds 3 --out another-folder" in shown.text
    assert "aside on random crop" in shown.text and "aside on random crop: optim.weight_decay" in shown.text
    assert "Each rung keeps the changes of those before it. A rung that names the one it is on is a side branch" in shown.text
    rows = table.datasets[0].stages
    assert rows[0].val is not None and rows[1].train is not None
    assert f"1 of 2 1 to 4 head 2.00 M {rows[0].train and rows[0].train.mean:.1f} ±" in shown.text
    assert f"2 of 2 5 to 8 all 4.00 M {rows[1].train.mean:.1f} ±" in shown.text
    assert len(shown.all("svg")) == 7 and asks_for_nothing(shown)


def test_a_rung_that_extends_a_recipe_is_set_against_the_base(tmp_path: Path) -> None:
    rungs = (Rung("base"), Rung("theirs", {"extends": "demo", "train.epochs": 20}))
    _, shown = written(synthetic_study(tmp_path, rungs, [60, 61], images=60, arrangement="independent"))
    assert "theirs on the recipe demo, against base: " in shown.text
    assert (
        "made to the base alone. A rung that extends a recipe is built on that one instead." in shown.text
        and "extends=demo, train.epochs=20" in shown.text
    )


def test_charts_have_words_and_no_identifier_twice(page: tuple[StudyTable, Page]) -> None:
    shown = page[1]
    charts = [given for given in shown.all("svg") if given.get("role") == "img"]
    assert len(charts) == len(shown.all("svg")) == 7 and all(len(given["aria-label"]) > 20 for given in charts)
    named = [given["id"] for _, given in shown.elements if "id" in given]
    assert len(named) == len(set(named))
    assert {given["aria-labelledby"] for _, given in shown.elements if "aria-labelledby" in given} <= set(named)


def test_nothing_is_asked_of_the_network_and_no_script_runs(page: tuple[StudyTable, Page], hostile: Path) -> None:
    for shown in (page[1], Page(hostile.read_text(encoding="utf-8"))):
        assert asks_for_nothing(shown)
        (policy,) = [given["content"] for given in shown.all("meta") if given.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "script-src" not in policy


def test_names_are_text_and_never_code(hostile: Path) -> None:
    shown = Page(hostile.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in shown.elements} & {"b", "i"}
    assert all(text in shown.text for text in ("<b>title</b>", "<i>name", *HOSTILE[:2], "{{ 7 * 7 }} evil"))
    assert len(shown.all("svg")) == 2 * 6 and "\u202e" not in shown.html
    named = [given["id"] for _, given in shown.elements if "id" in given]
    assert len(named) == len(set(named))


def test_the_same_results_give_the_same_bytes(plan: StudyPlan, page: tuple[StudyTable, Page]) -> None:
    assert written(plan)[1].html == page[1].html
    assert sorted(path.name for path in plan.folder.iterdir()) == ["runs", "study.html", "study.json"]


def test_a_study_that_has_not_begun_has_a_page(plan: StudyPlan, tmp_path: Path) -> None:
    table, shown = written(replace(plan, folder=tmp_path))
    assert "No run has finished yet" in shown.text and shown.all("svg") == [] and "0 finished, 9 not in the table" in shown.text
    assert asks_for_nothing(shown) and table.datasets[0].chosen is None


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: the page was not looked at in a browser (Debian: apt install chromium)")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize("width, scheme", [(320, "light"), (420, "dark"), (1280, "light")])
def test_in_a_browser_only_boxes_scroll_sideways(browser: Browser, plan: StudyPlan, hostile: Path, width: int, scheme: str) -> None:
    for file in (plan.folder / "study.html", hostile):
        browser.open(file, width=width, scheme=scheme)
        assert browser.value("document.documentElement.scrollWidth") <= width
        outside = (
            "[...document.querySelectorAll('main *')].filter(part => !part.closest('.box, .scroll, pre, svg')"
            " && part.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(part => part.outerHTML.slice(0, 80))"
        )
        assert browser.value(outside) == []
        requested = [event["params"]["request"]["url"] for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
        assert [url for url in requested if not url.startswith("data:")] == [file.as_uri()]
        assert [event for event in browser.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")] == []
        drawn = browser.value("getComputedStyle(document.querySelector('.rung-1 path')).stroke")
        chip = browser.value("getComputedStyle(document.querySelector('.chip-1')).backgroundColor")
        assert drawn == chip != "rgba(0, 0, 0, 0)", "a rung has one colour in charts and tables"


def test_in_print_nothing_is_wider_than_the_paper(browser: Browser, plan: StudyPlan) -> None:
    browser.open(plan.folder / "study.html", width=740, scheme="dark", media="print")
    assert browser.value("document.documentElement.scrollWidth") <= 740
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("document.querySelector('section:last-of-type details pre').offsetHeight") > 300
