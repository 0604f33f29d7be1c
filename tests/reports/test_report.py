from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import sklearn.metrics
from elements import Page
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.core.manifest import Origin
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.content import file_hash
from fieldmark.datasets.images import Files
from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.evaluation.run import Run
from fieldmark.reports import strips
from fieldmark.reports.browse import BUDGET
from fieldmark.reports.gallery import cards, large_images, ranked, thumbnail
from fieldmark.reports.report import write_report
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import evaluate_predictions


def rows_of_classes(html: str) -> list[list[str]]:
    (table,) = re.findall(r'<table id="classes-table">.*?</table>', html, re.DOTALL)
    body = table.partition("<tbody>")[2]
    return [
        [Page(cell).text for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr[ >].*?</tr>", body, re.DOTALL)
    ]


def copied(run: Run, path: Path, **manifest: Any) -> Run:
    """A copy of a run with other values in its manifest."""
    shutil.copytree(run.path, path)
    RunFolder(path).update_manifest(**manifest)
    return Run.load(path)


def rewrite(run: Run, **test: float | None) -> None:
    """Let the summary of a run say something else of test."""
    summary = run.summary
    summary.model_copy(update={"test": summary.test.model_copy(update=test)}).write(run.folder.summary_file)


def written(run: Run, path: Path) -> tuple[str, Page]:
    html = write_report(run, path).read_text(encoding="utf-8")
    return html, Page(html)


def asks_for_nothing(page: Page, html: str) -> bool:
    """Whether every address in the page is within it, and one script, the page's own, is all that runs."""
    asking = {"src", "href", "srcset", "poster", "action", "data", "background"}
    addresses = [value for _, given in page.elements for name, value in given.items() if name in asking]
    handlers = [name for _, given in page.elements for name in given if name.startswith("on")]
    return (
        all(address.startswith(("data:", "#")) for address in addresses)
        and re.findall(r"url\((?!#)|@import", html) == []
        and handlers == []
        and page.all("script") == [{}]
        and not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base", "form", "video", "audio"}
    )


@pytest.fixture(scope="module")
def report(finished_run: Run) -> tuple[str, Page]:
    """What training has left in the run."""
    html = finished_run.folder.report_file.read_text(encoding="utf-8")
    return html, Page(html)


def test_the_answer_comes_first(finished_run: Run, report: tuple[str, Page]) -> None:
    test, text = finished_run.summary.test, report[1].text
    answer = f"{test.top1:.1f} % of 12 test images are classified correctly"
    assert answer in text and text.index(answer) < text.index("Macro F1")
    assert f"95 % interval: {test.top1_low:.1f}–{test.top1_high:.1f} %" in text
    assert f"Macro F1 {test.macro_f1:.1f} % {test.macro_f1_low:.1f}–{test.macro_f1_high:.1f} %" in text
    assert "as computed" not in text[: text.index("Before you believe it")], "twelve images are too few to correct anything"
    assert f"NLL {test.nll:.3f} {test.nll_low:.3f}–{test.nll_high:.3f}" in text
    assert f"ECE {test.ece:.1f} % {test.ece_low:.1f}–{test.ece_high:.1f} %" in text
    assert f"Val top-1 {finished_run.summary.val.top1:.1f} %" in text
    assert "Top-5" not in text, "of three classes, the right one is always among the first five"
    assert "Dataset birds3 Classes 3 Model test_efficientnet" in text


def test_the_bar_shows_the_interval(finished_run: Run, report: tuple[str, Page]) -> None:
    test = finished_run.summary.test
    bars = {given["class"]: given for given in report[1].all("rect") if "class" in given}
    assert float(bars["band"]["x"].rstrip("%")) == pytest.approx(test.top1_low, abs=0.01)
    assert float(bars["band"]["width"].rstrip("%")) == pytest.approx(test.top1_high - test.top1_low, abs=0.01)
    assert float(bars["point"]["x"].rstrip("%")) == pytest.approx(test.top1, abs=0.01)


def test_splits_settings_and_provenance(finished_run: Run, report: tuple[str, Page], birds: Path) -> None:
    html, page = report
    table = pq.read_table(finished_run.folder.split_file).to_pylist()
    for split in ("train", "val", "test"):
        counts = Counter(row["label"] for row in table if row["split"] == split)
        largest = max(sorted(counts), key=lambda name: counts[name])
        assert re.search(rf"{split} {counts.total()} 3 .*?{largest} \({counts[largest]}\)", page.text)
    assert "All images could be read." in page.text
    assert finished_run.folder.manifest().fingerprint in page.text and "0 for training, 0 for splits" in page.text
    summary = finished_run.summary
    assert f"{summary.model.parameters:,}" in page.text and f"{summary.model.macs:,} an image" in page.text
    assert f"{summary.training.samples_seen:,} images seen over all epochs" in page.text
    assert f"fieldmark train {birds} --recipe recipe.yaml" in page.text
    (recipe,) = re.findall(r"recipe.yaml</summary>\s*<pre[^>]*>(.*?)</pre>", html, re.DOTALL)
    assert Page(recipe).pieces[0] == finished_run.folder.recipe_file.read_text(encoding="utf-8")
    assert len([given for given in page.all("svg") if "by epoch" in given.get("aria-label", "")]) == 3


def test_the_pairs_confused_most_are_said_with_both_names_the_more_frequent_mistake_first(
    finished_run: Run, report: tuple[str, Page]
) -> None:
    own = Predictions.load(finished_run.folder.predictions / "test.npz")
    answered = zip(own.labels.tolist(), own.logits.argmax(axis=1).tolist(), strict=True)
    times = Counter((own.class_names[label], own.class_names[said]) for label, said in answered)
    row = r"<bdi>([^<]+)</bdi> <span class=.soft.>predicted as</span> <bdi>([^<]+)</bdi></th><td[^>]*>(\d+)</td><td[^>]*>(\d+)</td>"
    rows = re.findall(row, report[0])
    assert rows
    for label, said, often, back in rows:
        assert (int(often), int(back)) == (times[label, said], times[said, label]) and int(often) >= int(back)


def test_every_class_has_its_row(finished_run: Run, report: tuple[str, Page]) -> None:
    own = Predictions.load(finished_run.folder.predictions / "test.npz")
    said = own.logits.argmax(axis=1)
    scores = sklearn.metrics.precision_recall_fscore_support(own.labels, said, labels=range(3), zero_division=np.nan)
    expected = {}
    for label, (name, precision, recall, f1, n) in enumerate(zip(own.class_names, *scores, strict=True)):
        wrong = Counter(said[(own.labels == label) & (said != label)].tolist())
        taken = min(wrong, key=lambda answer: (-wrong[answer], answer), default=None)
        figures = ["–" if np.isnan(value) else f"{100 * value:.1f}" for value in (recall, precision, f1)]
        right = int(((own.labels == label) & (said == label)).sum())
        exact = scipy.stats.binomtest(right, int(n)).proportion_ci(method="exact")
        figures[0] += f" {100 * exact.low:.0f}–{100 * exact.high:.0f}"
        expected[name] = [str(n), str(right), *figures, "–" if taken is None else f"{own.class_names[taken]} ({wrong[taken]})"]
    rows = rows_of_classes(report[0])
    assert {name: cells for name, *cells in rows} == expected
    f1 = [float(row[5].replace("–", "inf")) for row in rows]
    assert f1 == sorted(f1)


def test_mistakes_are_sorted_by_loss_and_hits_by_doubt() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 7)).astype(np.float32) * 3
    labels = rng.integers(-1, 7, 300).astype(np.int32)
    own = Predictions(np.array([str(i) for i in range(300)]), labels, logits, np.zeros((300, 1), np.float32), tuple("abcdefg"))
    probabilities = [np.exp(row) / np.exp(row).sum() for row in logits.astype(np.float64)]
    confidence = [max(row) for row in probabilities]
    wrong = [row for row in range(300) if labels[row] >= 0 and int(logits[row].argmax()) != labels[row]]
    right = [row for row in range(300) if labels[row] >= 0 and int(logits[row].argmax()) == labels[row]]
    mistakes, hits = ranked(own)
    assert mistakes.tolist() == sorted(wrong, key=lambda row: probabilities[row][labels[row]])
    assert hits.tolist() == sorted(right, key=lambda row: confidence[row])
    (card,) = cards(own, mistakes[:1], large_images(RecordedImages(Files(Path("nowhere")), {}, {})))
    first = int(mistakes[0])
    assert card.cell == (labels[first], logits[first].argmax())
    assert (card.path, card.said, card.label) == (str(first), "abcdefg"[logits[first].argmax()], "abcdefg"[labels[first]])
    assert card.said_probability == pytest.approx(confidence[first], abs=1e-6)
    assert card.thumbnail is None and "No such file" in card.reason


def test_thumbnails_are_small_upright_and_of_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (900, 300), "red").save(file, exif=exif)
    data = thumbnail(RecordedImages(Files(file.parent), {file.name: file_hash(file.read_bytes())}, {}), file.name)
    shown = Image.open(BytesIO(base64.b64decode(data.removeprefix("data:image/jpeg;base64,"))))
    assert shown.format == "JPEG" and max(shown.size) == 320 and shown.width < shown.height
    with pytest.raises(UnreadableImage, match="has changed since the run began"):
        thumbnail(RecordedImages(Files(file.parent), {file.name: file_hash(b"another")}, {}), file.name)


def test_nothing_is_asked_of_the_network(report: tuple[str, Page]) -> None:
    html, page = report
    assert asks_for_nothing(page, html)
    (policy,) = [given["content"] for given in page.all("meta") if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_every_image_has_words_for_those_who_do_not_see_it(report: tuple[str, Page]) -> None:
    page = report[1]
    html = page.html
    gallery = Page(html[html.index('id="images"') : html.index('id="calibration"')])
    assert len(gallery.all("img")) == 12 and all(given["alt"] for given in page.all("img"))
    maps = [given for given in page.all("img") if "with what supports" in given["alt"]]
    assert len(page.all("img")) == 12 + 2 * len(maps) > 12, "each image of a strip has its map"
    assert all(given.get("aria-label") or given.get("aria-hidden") for given in page.all("svg"))


def test_the_same_run_gives_the_same_bytes(finished_run: Run, tmp_path: Path) -> None:
    write_report(finished_run, tmp_path / "a.html")
    code = f"import fieldmark; fieldmark.report({str(finished_run.path)!r}, out={str(tmp_path / 'b.html')!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == finished_run.folder.report_file.read_bytes()


def test_names_are_text_and_never_code(hostile_run: Run) -> None:
    html = hostile_run.folder.report_file.read_text(encoding="utf-8")
    page = Page(html)
    assert asks_for_nothing(page, html)
    assert not {tag for tag, _ in page.elements} & {"i", "u", "em"}
    assert {row[0] for row in rows_of_classes(html)} == set(hostile_run.class_names)
    assert "{{ 7 * 7 }}" in page.text and 'a "set" <b>' in page.text and "<em>run" in page.text
    assert "Set aside as unreadable: 1" in page.text
    assert f"{hostile_run.class_names[0]}/<u>broken.png not an image in a format that can be read" in page.text
    assert any(hostile_run.class_names[0] in given["alt"] for given in page.all("img"))


def test_images_that_cannot_be_shown_are_replaced_by_the_reason(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    shutil.copytree(birds, tmp_path / "data")
    own = Predictions.load(finished_run.folder.predictions / "test.npz")
    gone, other = (tmp_path / "data" / path for path in own.ids[:2])
    gone.unlink()
    Image.new("RGB", (32, 32)).save(other)
    run = copied(finished_run, tmp_path / "run", data=Origin(name="birds3", root=str(tmp_path / "data"), layout="class-folders"))
    html, page = written(run, tmp_path / "report.html")
    gallery = html[html.index('id="images"') : html.index('id="calibration"')]
    assert gallery.count("<img") == 10 and gallery.count('class="missing"') == 2
    assert "the file cannot be read (No such file or directory)" in page.text and "the file has changed since the run began" in page.text


def test_what_was_passed_over_when_the_data_were_read_is_said(finished_run: Run, tmp_path: Path) -> None:
    notes = ("passed over <b> files: 3", "test/ holds 26 images that no table lists: they are unlabelled")
    assert all(note not in written(finished_run, tmp_path / "plain.html")[1].text for note in notes)
    origin = finished_run.folder.manifest().data.model_copy(update={"notes": notes})
    _, page = written(copied(finished_run, tmp_path / "run", data=origin), tmp_path / "report.html")
    assert all(note in page.text for note in notes)


@pytest.mark.parametrize("root", ["/moved & gone", "/no file system takes " + "this" * 100])
def test_data_that_moved_away_leave_a_report(finished_run: Run, tmp_path: Path, root: str) -> None:
    run = copied(finished_run, tmp_path / "run", data=Origin(name="birds3", root=root, layout="class-folders"))
    html, page = written(run, tmp_path / "report.html")
    assert f"The dataset was at {root} and is no longer there" in page.text
    assert page.all("img") == [] and 'class="missing"' not in html
    assert page.text.count("test/") == 12, "the cards are there without their images"


def test_a_test_without_mistakes_says_what_it_cannot_show(finished_run: Run, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    own = Predictions.load(run.folder.predictions / "test.npz")
    sure = Predictions(own.ids, own.labels, 9 * np.eye(3, dtype=np.float32)[own.labels], own.features, own.class_names)
    sure.save(run.folder.predictions / "test.npz")
    measured = evaluate_predictions(sure, 100, 0)
    rewrite(run, top1=measured.top1, top1_low=measured.top1_low, top1_high=measured.top1_high, nll=None)
    _, page = written(run, tmp_path / "report.html")
    assert "100.0 % of 12 test images are classified correctly" in page.text
    assert "95 % interval: 73.5–100.0 %" in page.text  # 0.735 ** 12 is 0.025
    assert "Mistakes None." in page.text and "NLL – " in page.text


def test_an_answer_that_is_no_number_is_a_mistake_and_says_so(finished_run: Run, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    own = Predictions.load(run.folder.predictions / "test.npz")
    own.logits[4, 1] = np.nan
    own.save(run.folder.predictions / "test.npz")
    _, page = written(run, tmp_path / "report.html")
    assert page.text.count("predicted nothing: the output was not a finite number") == 1


def test_images_of_test_that_failed_late_are_set_aside(finished_run: Run, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    own = Predictions.load(run.folder.predictions / "test.npz")
    Predictions(own.ids[1:], own.labels[1:], own.logits[1:], own.features[1:], own.class_names).save(run.folder.predictions / "test.npz")
    _, page = written(run, tmp_path / "report.html")
    assert f"{own.ids[0]} it could not be decoded when test was opened" in page.text
    assert "test 11 1 3" in page.text


@pytest.mark.parametrize("note", ["", "not an image in a format that can be read"])
def test_copies_count_where_they_were_used(finished_run: Run, tmp_path: Path, note: str) -> None:
    run = copied(finished_run, tmp_path / "run")
    table = pq.read_table(run.folder.split_file).to_pylist()
    tested = next(row for row in table if row["split"] == "test")
    trained = next(row for row in table if row["split"] == "train" and row["label"] == tested["label"])
    for row in (tested, trained):
        row |= {"hash": "0" * 32, "note": note}
    pq.write_table(pa.Table.from_pylist(table), run.folder.split_file)
    _, page = written(run, tmp_path / "report.html")
    assert ("1 image of test is also in train or val, byte for byte" in page.text) == (not note)


def test_stages_are_explained_where_there_are_any(finished_run: Run, report: tuple[str, Page], tmp_path: Path) -> None:
    assert "a stage begins" not in report[0]
    run = copied(finished_run, tmp_path / "run")
    rows = [json.loads(line) for line in run.folder.metrics_file.read_text().splitlines()]
    lines = [json.dumps(row | {"stage": ("head", "all")[row["epoch"] > 1]}) + "\n" for row in rows]
    run.folder.metrics_file.write_text("".join(lines))
    _, page = written(run, tmp_path / "report.html")
    assert "a stage begins" in page.text


def test_groups_are_what_is_resampled_and_counted(finished_run: Run, report: tuple[str, Page], tmp_path: Path) -> None:
    assert "of whole groups" not in report[1].text
    run = copied(finished_run, tmp_path / "run")
    own = Predictions.load(run.folder.predictions / "test.npz")
    right = 9 * np.eye(3, dtype=np.float32)[own.labels]
    replace(own, logits=right, groups=np.arange(12, dtype=np.int32) // 3).save(run.folder.predictions / "test.npz")
    rewrite(run, top1=100.0)
    _, page = written(run, tmp_path / "report.html")
    assert "bootstrap resamples of whole groups of images)" in page.text


def test_one_map_that_was_checked_has_no_interval(finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "_CHECKED", 1)
    _, page = written(finished_run, tmp_path / "report.html")
    assert re.search(
        r"than deleting as much elsewhere \(over 1 of them\): no significant evidence that the maps mark what matters", page.text
    )


def test_many_classes_and_images_stay_small_and_quick(large_run: Run, tmp_path: Path) -> None:
    began = time.process_time()
    html, page = written(large_run, tmp_path / "report.html")
    assert time.process_time() - began < 20
    assert len(html.encode()) < 13_000_000, "36 large images of noise, strips, and small images within their budget"
    assert len(rows_of_classes(html)) == 200 and html.count('class="strip"') == 6
    images = page.all("img")
    small = [given for given in images if given.get("loading") == "lazy"]
    assert 36 + 6 * 2 * 2 <= len(images) - len(small) <= 36 + 6 * 2 * 3 * 2
    assert len(small) > 100 and sum(len(given["src"]) for given in small) <= BUDGET


def test_every_mistake_is_in_the_page_and_what_the_budget_cuts_is_said(large_run: Run, tmp_path: Path) -> None:
    html, page = written(large_run, tmp_path / "report.html")
    own = Predictions.load(large_run.folder.predictions / "test.npz")
    wrong = own.logits.argmax(axis=1) != own.labels
    part = Page(html[html.index('id="all-mistakes"') : html.index("<h3>Correct</h3>")])
    assert sorted(given["data-path"] for given in part.all("li")) == sorted(own.ids[wrong].tolist())
    without = len(part.all("li")) - len(part.all("img"))
    assert f"{without:,} are listed without their image: small images of this page may take 6 MB." in page.text
    ((name, _),) = Counter(own.class_names[label] for label in own.labels[wrong]).most_common(1)
    assert re.findall(r"<summary><bdi>(.*?)</bdi>", part.html)[0] == name


def test_what_cannot_be_written_is_said(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        write_report(finished_run, tmp_path / "none" / "report.html")
    with pytest.raises(InputError, match="is a folder; --out names the file to write"):
        write_report(finished_run, tmp_path)
    unfinished = copied(finished_run, tmp_path / "run")
    unfinished.folder.summary_file.unlink()
    with pytest.raises(InputError, match="the run is not finished"):
        write_report(unfinished, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
