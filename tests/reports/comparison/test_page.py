from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from browser import CHROMIUM, Browser
from elements import Page

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.core.run_folder import RunFolder
from fieldmark.evaluation.run import Run
from fieldmark.reports.comparison.differences import small
from fieldmark.reports.comparison.page import write_comparison
from fieldmark.scoring.comparison import holm
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import evaluate_predictions

N = 240
NAMES = ("lark", "pipit", "wagtail")


def copied(run: Run, path: Path, hits: np.ndarray | None = None, **manifest: Any) -> Run:
    """A copy of a run that was tested on as many images as there are `hits`, and named those rightly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(run.path, path)
    folder = RunFolder(path)
    if manifest:
        folder.update_manifest(**manifest)
    if hits is not None:
        retested(folder, hits)
    return Run.load(path)


def retested(folder: RunFolder, hits: np.ndarray, names: Sequence[str] = NAMES, resamples: int = 200) -> None:
    labels = (np.arange(len(hits)) % 3).astype(np.int32)
    said = np.where(hits, labels, (labels + 1) % 3)
    logits = (np.eye(3)[said] * np.linspace(1, 4, len(hits))[:, None]).astype(np.float32)
    ids = np.array([f"test/{names[label]}/{row:03}.png" for row, label in enumerate(labels)])
    test = Predictions(ids, labels, logits, np.zeros((len(hits), 2), np.float32), tuple(names))
    test.save(folder.predictions / "test.npz")
    folder.calibration_file.unlink(missing_ok=True)
    folder.evaluation_file.unlink(missing_ok=True)
    given = {"split": "test", "hash": "0" * 32, "note": ""}
    rows = [{"path": path, "label": names[label], **given} for path, label in zip(ids.tolist(), labels, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows), folder.split_file)
    measured = evaluate_predictions(test, resamples, 0)
    folder.summary().model_copy(update={"test": measured}).write(folder.summary_file)


def answers(rate: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < rate


@pytest.fixture(scope="module")
def far(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A weak run and a strong one."""
    folder = tmp_path_factory.mktemp("far")
    return copied(finished_run, folder / "weak", answers(0.6, 0)), copied(finished_run, folder / "strong", answers(0.9, 1))


@pytest.fixture(scope="module")
def near(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("near")
    return copied(finished_run, folder / "one", answers(0.8, 2)), copied(finished_run, folder / "other", answers(0.8, 3))


def written(runs: Sequence[Run], path: Path) -> tuple[str, Page]:
    html = write_comparison(runs, path).read_text(encoding="utf-8")
    return html, Page(html)


def rows_of(html: str, name: str) -> list[list[str]]:
    (table,) = re.findall(rf'<table id="{name}".*?</table>', html, re.DOTALL)
    return [
        [Page(cell).text for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr>.*?</tr>", table.partition("<tbody>")[2], re.DOTALL)
    ]


def hits_of(run: Run) -> np.ndarray:
    test = Predictions.load(run.folder.predictions / "test.npz")
    return test.logits.argmax(axis=1) == test.labels


def headline(html: str) -> str:
    return Page(html.partition("<h1>")[2].partition("</h1>")[0]).text


def test_a_clear_difference_is_the_headline(far: tuple[Run, Run], tmp_path: Path) -> None:
    weak, strong = map(hits_of, far)
    gap = 100 * (strong.mean() - weak.mean())
    html, page = written(far, tmp_path / "page.html")
    assert headline(html) == f"strong is better than weak by {gap:.1f} points"
    assert f"strong classifies {100 * strong.mean():.1f} % correctly and weak {100 * weak.mean():.1f} %: +{gap:.1f} points" in page.text
    turned, _ = written(far[::-1], tmp_path / "turned.html")
    assert headline(turned) == headline(html), "whichever of the two is the baseline"


def test_the_calibration_error_is_corrected_and_the_value_as_computed_stands_below(far: tuple[Run, Run], tmp_path: Path) -> None:
    _, page = written(far, tmp_path / "page.html")
    cells = []
    for test in (run.summary.test for run in far):
        corrected, low, high = test.estimate("ece")
        assert f"{corrected:.1f}" != f"{test.ece:.1f}"
        cells.append(f"{corrected:.1f} % {low:.1f}–{high:.1f} {test.ece:.1f} % as computed")
    assert f"before calibration; corrected for few images {' '.join(cells)}" in page.text
    assert page.text.count("as computed") == 2, "macro F1 is shown as it is"


def test_the_numbers_are_those_of_the_predictions(far: tuple[Run, Run], tmp_path: Path) -> None:
    weak, strong = map(hits_of, far)
    html, page = written(far, tmp_path / "page.html")
    ((name, verdict, points, p, _, both, wins, losses, neither),) = rows_of(html, "differences-table")
    counts = [(strong & weak), (strong & ~weak), (~strong & weak), (~strong & ~weak)]
    assert (name, verdict, points) == ("strong", "better", f"{100 * (strong.mean() - weak.mean()):+.1f}")
    assert [int(each) for each in (both, wins, losses, neither)] == [int(each.sum()) for each in counts]
    tail = 2 * scipy.stats.binom.cdf(counts[2].sum(), counts[1].sum() + counts[2].sum(), 0.5)
    assert p == ("< 0.0001" if tail < 0.0001 else f"{tail:.2g}")
    for run in far:
        test = run.summary.test
        assert f"{test.top1:.1f} % {test.top1_low:.1f}–{test.top1_high:.1f}" in page.text
        assert f"{test.nll:.3f} {test.nll_low:.3f}–{test.nll_high:.3f}" in page.text
    assert "before calibration" in page.text and "AUROC" not in page.text


def test_the_interval_is_drawn_where_it_is_written(far: tuple[Run, Run], tmp_path: Path) -> None:
    html, page = written(far, tmp_path / "page.html")
    low, high = map(float, re.findall(r"95 % interval ([+-][\d.]+) to ([+-][\d.]+), p", page.text)[0])
    (end,) = {int(each) for each in re.findall(r"on a scale from -(\d+) to", html)}
    band = next(given for given in page.all("rect") if given["class"] == "band")
    assert float(band["x"].rstrip("%")) == pytest.approx(50 + 50 * low / end, abs=50 * 0.06 / end)
    assert float(band["width"].rstrip("%")) == pytest.approx(50 * (high - low) / end, abs=50 * 0.12 / end)


def test_classes_by_the_size_of_the_difference(far: tuple[Run, Run], tmp_path: Path) -> None:
    weak, strong = map(hits_of, far)
    html, _ = written(far, tmp_path / "page.html")
    rows = rows_of(html, "classes-table")
    labels = np.arange(N) % 3
    assert sorted(row[0] for row in rows) == sorted(NAMES)
    for name, *cells in rows:
        one, other = (100 * hits[labels == NAMES.index(name)].mean() for hits in (weak, strong))
        assert list(map(float, cells)) == pytest.approx([N // 3, one, other, other - one], abs=0.0501)
        assert cells[-1].startswith("+")
    sizes = [abs(float(row[-1])) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_no_difference_is_no_proof_that_they_are_alike(near: tuple[Run, Run], tmp_path: Path) -> None:
    html, page = written(near, tmp_path / "page.html")
    assert headline(html) == "No significant difference between one and other"
    assert "The interval contains zero" in page.text and "nor do they show that both are equally good" in page.text
    assert rows_of(html, "differences-table")[0][1] == "not significant"


def test_an_interval_without_zero_is_not_enough(finished_run: Run, tmp_path: Path) -> None:
    runs = [copied(finished_run, tmp_path / name, hits) for name, hits in (("a", np.ones(N, bool)), ("b", np.arange(N) >= 4))]
    html, page = written(runs, tmp_path / "page.html")
    assert headline(html) == "No significant difference between a and b"
    assert "That is not called significant: the interval excludes zero, but p is not below 0.05, and both" in page.text
    assert "p = 0.12" in page.text


def test_runs_that_say_the_same(near: tuple[Run, Run], tmp_path: Path) -> None:
    twin = copied(near[0], tmp_path / "twin")
    html, page = written([near[0], twin], tmp_path / "page.html")
    assert headline(html) == "No significant difference between one and twin"
    assert "Both are right and wrong on exactly the same images." in page.text
    assert page.text.count("None.") == 2 and "None: the recipes have the same settings." in page.text
    assert rows_of(html, "differences-table") == [
        ["twin", "not significant", "+0.0", "1", "+0.0 to +0.0", str(hits_of(twin).sum()), "0", "0", str((~hits_of(twin)).sum())]
    ]
    assert {row[-1] for row in rows_of(html, "classes-table")} == {"+0.0"}


def test_several_runs_are_held_against_the_first(near: tuple[Run, Run], far: tuple[Run, Run], tmp_path: Path) -> None:
    html, page = written([*near, *far], tmp_path / "page.html")
    gap = 100 * (hits_of(far[1]).mean() - hits_of(near[0]).mean())
    assert headline(html) == f"Of 4 runs, strong has the highest accuracy, {gap:.1f} points above one"
    assert "strong was selected for its top-1 on test, which is optimistically biased" in page.text
    rows = rows_of(html, "differences-table")
    assert [row[:2] for row in rows] == [["other", "not significant"], ["weak", "worse"], ["strong", "better"]]
    single = [rows_of(written([near[0], run], tmp_path / "two.html")[0], "differences-table")[0] for run in (near[1], *far)]
    alone = [0.00001 if row[3].startswith("<") else float(row[3]) for row in single]
    for row, p in zip(rows, holm(alone), strict=True):
        assert row[3] == "< 0.0001" or float(row[3]) == pytest.approx(p, rel=0.05)
    best_first, _ = written([far[1], *near], tmp_path / "best.html")
    assert headline(best_first) == "None of the other 2 runs is better than strong"


def test_a_lead_that_is_not_shown_is_called_so(near: tuple[Run, Run], far: tuple[Run, Run], tmp_path: Path) -> None:
    low, high = sorted(near, key=lambda run: int(hits_of(run).sum()))
    html, _ = written([low, high, far[0]], tmp_path / "page.html")
    assert headline(html) == f"Of 3 runs, {high.path.name} has the highest accuracy, but not significantly higher than {low.path.name}"


def test_the_headline_names_the_run_that_is_significantly_better_where_the_best_is_not(finished_run: Run, tmp_path: Path) -> None:
    """Of 240 images the baseline misses 40; the steady one 10 of these, the wavering one fewer in all but some of its own."""
    base, steady, wavering = np.arange(N) >= 40, np.arange(N) >= 33, np.ones(N, bool)
    wavering[:10] = False
    wavering[100:122] = False
    runs = [copied(finished_run, tmp_path / name, hits) for name, hits in (("a", base), ("b", steady), ("c", wavering))]
    html, _ = written(runs, tmp_path / "page.html")
    assert headline(html) == "Of 3 runs, c has the highest accuracy, but b, not it, is significantly better than a"
    assert [row[:2] for row in rows_of(html, "differences-table")] == [["b", "better"], ["c", "not significant"]]


def test_a_p_shows_on_which_side_of_the_level_it_is() -> None:
    assert [small(p) for p in (0.2, 0.0496, 0.05, 0.0504, 0.04999, 0.00001)] == [
        "0.2",
        "0.0496",
        "0.05",
        "0.05",
        "0.04999",
        "<\u00a00.0001",
    ]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_settings_that_differ_and_seeds_alone(near: tuple[Run, Run], tmp_path: Path) -> None:
    seed = copied(near[1], tmp_path / "seed")
    recipe = seed.folder.recipe_file.read_text(encoding="utf-8")
    seed.folder.recipe_file.write_text(re.sub(r"(?m)^  seed: 0$", "  seed: 7", recipe), encoding="utf-8")
    _, page = written([near[0], Run.load(seed.path)], tmp_path / "page.html")
    assert "Setting one seed train.seed 0 7" in page.text and "differ only in the seed" in page.text
    fingerprint = seed.folder.manifest().fingerprint
    seed.folder.update_manifest(fingerprint="another")
    _, page = written([near[0], Run.load(seed.path)], tmp_path / "page.html")
    assert "differ only in the seed" not in page.text
    seed.folder.update_manifest(fingerprint=fingerprint)
    seed.folder.recipe_file.write_text(re.sub(r"(?m)^  seed: 0$", "  seed: 7", recipe).replace("lr: 0.02", "lr: 0.03"), encoding="utf-8")
    seed.folder.update_manifest(fingerprint="another")
    _, page = written([near[0], Run.load(seed.path)], tmp_path / "page.html")
    assert "optim.lr 0.02 0.03" in page.text and "differ only in the seed" not in page.text
    assert f"data fingerprint {near[0].folder.manifest().fingerprint} another" in page.text


def test_val_top1_chose_the_epoch_only_where_it_was_watched(near: tuple[Run, Run], tmp_path: Path) -> None:
    assert "Val top-1 it chose the best epoch" in written(near, tmp_path / "page.html")[1].text
    other = copied(near[1], tmp_path / "other")
    recipe = other.folder.recipe_file.read_text(encoding="utf-8")
    assert recipe.count("  monitor: top1\n") == 1
    other.folder.recipe_file.write_text(recipe.replace("  monitor: top1\n", "  monitor: nll\n"), encoding="utf-8")
    _, page = written([near[0], Run.load(other.path)], tmp_path / "page.html")
    assert "Val top-1" in page.text and "it chose the best epoch" not in page.text


def test_unknown_images_where_all_runs_met_the_same(near: tuple[Run, Run], tmp_path: Path) -> None:
    runs = [copied(run, tmp_path / run.path.name) for run in near]
    for run, value in zip(runs, (81.23, 79.87), strict=True):
        score = {"name": "energy", "auroc": value, "auroc_low": value - 2, "auroc_high": value + 2}
        other = {"name": "msp", "auroc": 1.0, "auroc_low": 0.0, "auroc_high": 2.0}
        sets = [{"name": "cats", "n": 55, "score": "energy", "scores": [other, score]}]
        run.folder.evaluation_file.write_text(json.dumps({"unknown": sets}))
        save_unknown(run, [f"cats/{number}.jpg" for number in range(55)])
    _, page = written(runs, tmp_path / "page.html")
    assert "AUROC separating 55 images of “cats” from those of test 81.2 % 79.2–83.2 79.9 % 77.9–81.9" in page.text
    save_unknown(runs[1], [f"other/cats/{number}.jpg" for number in range(55)])
    assert "AUROC" not in written(runs, tmp_path / "page.html")[1].text
    for damaged in ("", "[]", '{"unknown": [{"name": "cats"}]}'):
        runs[1].folder.evaluation_file.write_text(damaged)
        with pytest.raises(InputError, match=r"evaluation\.json cannot be read"):
            written(runs, tmp_path / "page.html")


def save_unknown(run: Run, ids: Sequence[str]) -> None:
    n = len(ids)
    (run.folder.predictions / "unknown").mkdir(exist_ok=True)
    nothing = np.zeros((n, 0), np.float32)
    logits = np.zeros((n, len(run.class_names)), np.float32)
    Predictions(np.array(ids), np.full(n, -1, np.int32), logits, nothing, run.class_names).save(
        run.folder.predictions / "unknown" / "cats.npz"
    )


def test_images_on_which_they_part(finished_run: Run, tmp_path: Path) -> None:
    one, other = copied(finished_run, tmp_path / "one"), copied(finished_run, tmp_path / "other")
    test = Predictions.load(one.folder.predictions / "test.npz")
    right = np.eye(3, dtype=np.float32)[test.labels]
    wrong = np.roll(right, 1, axis=1)
    rows = np.arange(len(test))
    strength = (1 + rows / 4).astype(np.float32)[:, None]
    replace(test, logits=strength * np.where((rows < 5)[:, None], right, wrong)).save(one.folder.predictions / "test.npz")
    theirs = strength * np.where((rows >= 3)[:, None], right, wrong)
    theirs[1, 0] = np.nan
    replace(test, logits=theirs).save(other.folder.predictions / "test.npz")
    html, page = written([one, other], tmp_path / "page.html")
    first, second = html.partition('id="images"')[2].split("<h3>")[1:]
    assert Page(first).text.startswith("Only one is right") and Page(second).text.startswith("Only other is right")
    paths = [re.findall(r'class="path"><bdi>(.*?)</bdi>', part) for part in (first, second)]
    assert paths[0] == [test.ids[1], test.ids[2], test.ids[0]], "the most confident mistakes of other first, after what is no number"
    assert paths[1] == test.ids[:4:-1].tolist()
    assert "one right" in Page(first).text and "other nothing: the output was not a finite number" in Page(first).text
    assert len(page.all("img")) == 10 and all(given["alt"] for given in page.all("img"))


def test_the_same_runs_give_the_same_bytes(far: tuple[Run, Run], tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fieldmark.evaluation.run import Run; from fieldmark.reports.comparison import page\n"
        "page.write_comparison([Run.load(each) for each in sys.argv[2:]], Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.html"), *(str(run.path) for run in far)], check=True)
    write_comparison(far, tmp_path / "b.html")
    first = (tmp_path / "a.html").read_bytes()
    assert first == (tmp_path / "b.html").read_bytes() and len(first) < 10_000_000
    write_comparison(far, tmp_path / "b.html")
    assert (tmp_path / "b.html").read_bytes() == first, "a page of its own is written again"


def test_names_are_text_and_nothing_is_asked_of_the_network(hostile_run: Run, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> $\\frac$ {{ 7 * 7 }} \"'"
    other = copied(hostile_run, tmp_path / name)
    html, page = written([hostile_run, other], tmp_path / "page.html")
    asking = {"src", "href", "srcset", "poster", "action", "data", "background"}
    addresses = [value for _, given in page.elements for key, value in given.items() if key in asking]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert re.findall(r"url\((?!#)|@import", html) == []
    assert not [key for _, given in page.elements for key in given if key.startswith("on")]
    assert page.all("script") == [{}]
    assert not {tag for tag, _ in page.elements} & {"i", "u", "em", "iframe", "object", "embed", "base", "form", "a"}
    assert name in page.text and {row[0] for row in rows_of(html, "classes-table")} == set(hostile_run.class_names)
    (policy,) = [given["content"] for given in page.all("meta") if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert all(given.get("aria-label") or given.get("aria-hidden") for given in page.all("svg"))


def test_the_command_repeats_it(far: tuple[Run, Run], tmp_path: Path) -> None:
    _, page = written(far, tmp_path / "page.html")
    assert f"fieldmark report {far[0].path} {far[1].path} --out FILE" in page.text


def test_what_cannot_be_compared_is_said(far: tuple[Run, Run], finished_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    weak, strong = far
    with pytest.raises(InputError, match=r"several runs need a file to write\nName it with --out FILE"):
        write_comparison(far, None)
    with pytest.raises(InputError, match="two runs or more, not 0"):
        fieldmark.report()
    with pytest.raises(InputError, match="two runs or more, not 1"):
        write_comparison([weak], out)
    with pytest.raises(InputError, match="is given twice"):
        write_comparison([weak, strong, Run.load(weak.path / ".." / "weak")], out)
    with pytest.raises(InputError, match="is not finished"):
        write_comparison([weak, copied(strong, tmp_path / "running", status="running")], out)
    with pytest.raises(InputError, match="does not know"):
        write_comparison([finished_run, strong], out)
    fewer = copied(strong, tmp_path / "fewer", answers(0.9, 1)[:-2])
    with pytest.raises(InputError, match=r"not tested on the same images: only one was on test/pipit/238.png, test/wagtail/239.png"):
        write_comparison([weak, fewer], out)
    changed = copied(strong, tmp_path / "changed")
    table = pq.read_table(changed.folder.split_file).to_pylist()
    table[4]["hash"] = "1" * 32
    pq.write_table(pa.Table.from_pylist(table), changed.folder.split_file)
    with pytest.raises(InputError, match=rf"another content or class in .*changed: {table[4]['path']}"):
        write_comparison([weak, changed], out)
    with pytest.raises(InputError, match="there is no folder"):
        write_comparison(far, tmp_path / "none" / "page.html")
    with pytest.raises(InputError, match="was not written by this command"):
        write_comparison(far, finished_run.folder.report_file)
    assert not out.exists()


def test_images_in_another_order_are_the_same_images(far: tuple[Run, Run], tmp_path: Path) -> None:
    shuffled = copied(far[1], tmp_path / "strong")
    test = Predictions.load(shuffled.folder.predictions / "test.npz")
    test.take(np.random.default_rng(0).permutation(N)).save(shuffled.folder.predictions / "test.npz")
    straight, turned = (written([far[0], run], tmp_path / "page.html")[0] for run in (far[1], shuffled))
    assert rows_of(straight, "differences-table") == rows_of(turned, "differences-table")
    assert rows_of(straight, "classes-table") == rows_of(turned, "classes-table")


def test_it_opens_in_a_browser_wide_and_narrow(hostile_run: Run, large_run: Run, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: the page was not looked at in a browser (Debian: apt install chromium)")
    hostile = write_comparison([hostile_run, copied(hostile_run, tmp_path / ("very" * 40))], tmp_path / "hostile.html")
    many = [copied(large_run, tmp_path / name) for name in ("large", "again", "more")]
    for run in many:
        run.folder.calibration_file.unlink(missing_ok=True)  # of other classes
    large = write_comparison(many, tmp_path / "large.html")
    assert large.stat().st_size < 10_000_000
    browser = Browser(tmp_path / "profile")
    try:
        for page in (hostile, large):
            for width, scheme in ((1280, "light"), (360, "dark")):
                browser.open(page, width, scheme=scheme)
                assert browser.value("document.documentElement.scrollWidth <= innerWidth")
                assert [event for event in browser.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")] == []
                assert browser.value("[...document.images].every(image => image.naturalWidth > 0)")
        recalls = "[...document.querySelectorAll('#classes-table tbody tr')].map(row => parseFloat(row.cells[3].textContent))"
        browser.value("document.querySelectorAll('#classes-table th button')[3].click()")
        found = browser.value(recalls)
        assert len(found) == 200 and found == sorted(found)
        shown = "[...document.querySelectorAll('#classes-table tbody tr')].filter(row => row.offsetHeight).length"
        browser.value("search.value = 'SPECIES 17 with'; search.dispatchEvent(new Event('input'))")
        assert browser.value(shown) == 1 and browser.value("found.textContent") == "1 of 200"
    finally:
        browser.close()


def test_boxes_are_drawn_where_the_run_crops_to_them(finished_run: Run, tmp_path: Path) -> None:
    one, other = copied(finished_run, tmp_path / "one"), copied(finished_run, tmp_path / "other")
    test = Predictions.load(one.folder.predictions / "test.npz")
    for run, logits in ((one, np.eye(3)[test.labels]), (other, np.eye(3)[(test.labels + 1) % 3])):
        replace(test, logits=logits.astype(np.float32)).save(run.folder.predictions / "test.npz")
    whole, _ = written([one, other], tmp_path / "whole.html")
    table = pq.read_table(one.folder.split_file).to_pylist()
    edges = (4.0, 4.0, 28.0, 28.0)
    boxed = [
        row | dict(zip(("left", "top", "right", "bottom"), edges if row["path"] in test.ids[:5] else [np.nan] * 4, strict=True))
        for row in table
    ]
    pq.write_table(pa.Table.from_pylist(boxed), one.folder.split_file)
    one.__dict__["preprocess"] = replace(one.preprocess, margin=0.1)
    drawn, _ = written([one, other], tmp_path / "drawn.html")
    images = [dict(re.findall(r'src="(data:image[^"]+)" alt="([^:"]+)', html)) for html in (whole, drawn)]
    changed = {images[0][data] for data in images[0].keys() - images[1].keys()}
    assert changed == set(test.ids[:5].tolist())
