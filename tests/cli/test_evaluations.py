import re
from pathlib import Path

from rich.console import Console as RichConsole

from fieldmark.cli.evaluations import as_text, robustness_table
from fieldmark.evaluation.evaluate import Evaluation
from fieldmark.evaluation.robustness import Robustness
from fieldmark.evaluation.unknowns import ScoreFigures, UnknownEvaluation, UnknownFigures
from fieldmark.scoring.metrics import AbsentClasses
from fieldmark.scoring.summary import metrics_table


def test_the_table_leaves_out_what_was_not_measured() -> None:
    measured = Robustness(n=12, none=91.7, corruptions={"fog": {"1": 80.0, "3": 41.64}, "blur": {"3": 33.3}})
    printed = RichConsole(width=120, record=True, force_terminal=False)
    printed.print(robustness_table(measured))
    text = printed.export_text()
    assert "91.7 as the images are" in " ".join(text.split()) and "severity 2" not in text
    (fog,) = (line.split("│") for line in text.splitlines() if "fog" in line)
    (blur,) = (line.split("│") for line in text.splitlines() if "blur" in line)
    assert [cell.strip() for cell in fog] == ["fog", "80.0", "41.6"] and [cell.strip() for cell in blur] == ["blur", "", "33.3"]


def test_figures_fit_80_columns_with_whole_intervals(finished_run):
    printed = RichConsole(width=80, record=True, force_terminal=False)
    printed.print(metrics_table({"val": finished_run.summary.val, "test": finished_run.summary.test}, finished_run.summary.dataset.classes))
    lines = printed.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = [line for line in lines if "[" in line]
    assert len(rows) >= 4 and all(len(re.findall(r"[\d.]+  \[[\d.]+, [\d.]+\]", row)) == 2 for row in rows)


def test_classes_that_no_image_has_are_said_where_macro_f1_counts_them(finished_run):
    def said(*absent):
        found = Evaluation(finished_run.path, "new", "all", None, Path("new-all.npz"), finished_run.summary.test, 6, AbsentClasses(*absent))
        return [line for line in as_text(found) if isinstance(line, str) and "no image" in line]

    assert said(3, 2, 0.873) == [
        "3 of 6 classes have no image here: macro F1 counts 2 of them, which were predicted, as 0; "
        "over the classes that are here it is 87.3."
    ]
    assert said(1, 1, 0.5) == [
        "1 of 6 classes has no image here: it was predicted, and macro F1 counts it as 0; over the classes that are here it is 50.0."
    ]
    assert said(3, 0, 0.9) == []


def test_a_score_that_chance_equals_on_unknown_images_is_said_and_the_columns_are_explained():
    def said(low):
        score = ScoreFigures("max-logit", 50.3, low, 65.0, 40.0, 90.0, 30.0)
        figures = UnknownFigures("weeds", 20, 37, "max-logit", 95, 95, 90, 99, 5, 1, 20, False, (score,), {})
        return [line for line in as_text(UnknownEvaluation(Path("run"), Path("weeds.npz"), figures)) if isinstance(line, str)]

    legend, caution, _ = said(35.5)
    assert all(word in legend for word in ("* the score", "AUROC: ", "AUPR: ", "FPR95: ", "OSCR: "))
    assert caution.endswith("its score, max-logit, has an AUROC of 50.3 [35.5, 65.0], and chance alone gets 50")
    assert not any("caution" in line for line in said(50.1))


def test_one_image_is_was_and_not_were(finished_run):
    metrics = finished_run.summary.test
    found = Evaluation(finished_run.path, "new", "all", None, Path("a.npz"), metrics, 6, AbsentClasses(0, 0, 1), 1, 0, metrics)
    (caution,) = (line for line in as_text(found) if isinstance(line, str) and line.startswith("caution"))
    assert caution == f"caution: 1 of the {metrics.n} images was trained on, byte for byte; the column 'all, unseen' leaves it out."
