"""The report in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, contrast, luminance

from fieldmark.evaluation.run import Run
from fieldmark.reports.report import write_report
from fieldmark.scoring.predictions import Predictions


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: the report was not looked at in a browser (Debian: apt install chromium)")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def large(large_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(large_run, tmp_path_factory.mktemp("large") / "report.html")


TABLE = "[...document.querySelectorAll('#classes-table tbody tr')]"
CELLS = f"{TABLE}.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
SHOWN = f"{TABLE}.filter(row => row.offsetHeight > 0).map(row => row.cells[0].textContent.trim())"


def test_it_opens_without_the_network_and_without_complaints(browser: Browser, large: Path, hostile_run: Run) -> None:
    for page in (large, hostile_run.folder.report_file):
        browser.open(page)
        assert browser.value("document.title").endswith(" %")
        requested = [event["params"]["request"]["url"] for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
        assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]
        assert [event for event in browser.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")] == []
        assert browser.value("[...document.images].every(image => !image.src || image.naturalWidth > 0 || image.loading == 'lazy')")
        assert browser.value("document.scripts.length") == 1


def test_columns_sort_both_ways(browser: Browser, large: Path) -> None:
    browser.open(large)
    rows = browser.value(CELLS)
    assert len(rows) == 200 and any("–" in row for row in rows)

    def key(row: list[str], column: int) -> float:
        return float(row[column].split()[0].replace(",", ""))  # an interval may follow

    for column in range(1, 6):
        for sign, state in ((1, "ascending"), (-1, "descending")):
            if (column, sign) == (5, 1):
                continue  # so it stood at first: the next click turns it
            browser.value(f"document.querySelectorAll('#classes-table th button')[{column}].click()")
            now = browser.value(CELLS)
            defined = [key(row, column) for row in now if row[column] != "–"]
            assert defined == sorted((key(row, column) for row in rows if row[column] != "–"), reverse=sign < 0)
            assert all(row[column] == "–" for row in now[len(defined) :])
            assert sorted(now) == sorted(rows)
            states = browser.value("[...document.querySelectorAll('#classes-table th[aria-sort]')].map(th => [th.cellIndex, th.ariaSort])")
            assert states == [[column, state]]
        if column == 4:
            browser.open(large)


def test_names_sort_as_people_do_and_from_the_keyboard(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.value("document.getElementById('search').focus()")
    browser.press("Tab")  # the box that scrolls
    browser.press("Tab")
    assert browser.value("document.activeElement.textContent.trim()") == "Class"
    browser.press("Enter", "\r")
    names = [row[0] for row in browser.value(CELLS)]
    assert names[:3] == ["Éspecies 0 with a long name", "ëspecies 1 with a long name", "Éspecies 3 with a long name"]
    assert names[-1] == "pspecies 197 with a long name"


def test_the_search_box_filters(browser: Browser, large: Path) -> None:
    browser.open(large)
    rows = browser.value(CELLS)
    browser.value("document.getElementById('search').focus()")
    browser.call("Input.insertText", text="ESPECIES 19")
    expected = [row[0] for row in rows if any(name + " 19" in row[0] + row[6] for name in ("Éspecies", "ëspecies"))]
    assert 0 < len(expected) < 200 and browser.value(SHOWN) == expected
    assert browser.value("document.getElementById('found').textContent") == f"{len(expected)} of 200"
    browser.call("Input.insertText", text=" is nowhere")
    assert browser.value(SHOWN) == []
    browser.value("document.getElementById('search').select()")
    browser.press("Delete")
    assert len(browser.value(SHOWN)) == 200


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_only_boxes_scroll_sideways(browser: Browser, large: Path, hostile_run: Run, width: int) -> None:
    for page in (large, hostile_run.folder.report_file):
        browser.open(page, width=width)
        assert browser.value("document.documentElement.scrollWidth") <= width
        outside = (
            "[...document.querySelectorAll('main *')].filter(part => !part.closest('.box, pre, svg')"
            " && part.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(part => part.outerHTML.slice(0, 80))"
        )
        assert browser.value(outside) == []
    browser.open(large, width=375)
    assert browser.value("(box => box.scrollWidth > box.clientWidth)(document.querySelector('.box.tall'))")


def test_light_and_dark_can_both_be_read(browser: Browser, large: Path) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        browser.open(large, scheme=scheme)
        style = "getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"
        papers[scheme] = luminance(browser.value(style.format("paper")))
        for name in ("ink", "soft", "wrong", "accent", "train", "val", "refit", "rate"):
            least = 4.5 if name in ("ink", "soft", "wrong", "accent") else 3  # lines need less than text
            for background in ("paper", "wash"):
                colours = (browser.value(style.format(part)) for part in (name, background))
                assert contrast(*colours) >= least, f"{name} on {background}, {scheme}"
        line = browser.value("getComputedStyle(document.querySelector('.charts path[style*=\"--val\"]')).stroke")
        assert line == ("rgb(213, 94, 0)" if scheme == "light" else "rgb(240, 140, 74)")
    assert papers["light"] > 0.9 and papers["dark"] < 0.02


def test_the_search_box_can_be_seen(browser: Browser, large: Path) -> None:
    for scheme in ("light", "dark"):
        browser.open(large, scheme=scheme)
        border = browser.value("getComputedStyle(document.getElementById('search')).borderTopColor")
        channels = [int(channel) for channel in re.findall(r"\d+", border)]
        paper = browser.value("getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()")
        assert contrast("#{:02x}{:02x}{:02x}".format(*channels), paper) >= 3, scheme


def test_all_of_it_can_be_read_without_script(browser: Browser, large: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(large)
        assert len(browser.value(SHOWN)) == 200
        assert browser.value("document.querySelectorAll('button').length") == 0
        assert browser.value("document.querySelector('.search').offsetHeight") == 0, "nothing is offered that does nothing"
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_print_shows_every_row_and_the_settings_on_white(browser: Browser, large: Path) -> None:
    browser.open(large, width=740, scheme="dark", media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("(box => box.scrollHeight <= box.clientHeight)(document.querySelector('.box.tall'))")
    assert browser.value("document.querySelector('.search').offsetHeight") == 0
    assert browser.value("document.querySelector('section:last-of-type details pre').offsetHeight") > 300


def test_print_shows_every_row_whatever_was_searched_for(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.value("document.getElementById('search').focus()")
    browser.call("Input.insertText", text="species 19")
    assert 0 < len(browser.value(SHOWN)) < 200
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert len(browser.value(SHOWN)) == 200


def test_what_was_folded_is_folded_again_after_printing(browser: Browser, large: Path) -> None:
    browser.open(large)
    folded = "[...document.querySelectorAll('details:not(.contents *, .browse, .browse *)')]"  # what is not for paper stays as it is
    states = f"{folded}.map(part => part.open)"
    for before in (False, True):
        browser.value(f"{folded}.forEach(part => part.open = {str(before).lower()})")
        browser.value("dispatchEvent(new Event('beforeprint'))")
        opened = browser.value(states)
        assert opened and all(opened)
        browser.value("dispatchEvent(new Event('afterprint'))")
        assert browser.value(states) == [before] * len(opened)


# ---- exploring --------------------------------------------------------------------------------------------------------------------


def value_of(browser: Browser, part: str) -> str:
    return browser.value(f"document.querySelector('#viewer [data-part={part}]').textContent")


OPEN = "document.getElementById('viewer').open"


def test_images_are_enlarged_and_walked_through_from_the_keyboard(browser: Browser, large: Path) -> None:
    browser.open(large)
    paths = browser.value("[...document.querySelectorAll('.gallery')[0].children].map(item => item.dataset.path)")
    browser.value("document.querySelectorAll('.gallery img')[1].focus()")
    browser.press("Enter", "\r")
    assert browser.value(OPEN) and value_of(browser, "path") == paths[1] and value_of(browser, "place") == "2 of 24"
    browser.press("ArrowRight")
    assert value_of(browser, "path") == paths[2]
    for _ in range(5):
        browser.press("ArrowLeft")
    assert value_of(browser, "path") == paths[0], "it ends at the first"
    assert browser.value("document.querySelector('#viewer .stage img').naturalWidth") == 400
    assert value_of(browser, "said").startswith("predicted ") and "; true " in value_of(browser, "said")
    browser.press("Escape")
    assert not browser.value(OPEN)
    assert browser.value("document.activeElement === document.querySelectorAll('.gallery img')[1]"), "back where it began"


def test_the_map_of_an_image_is_shown_on_demand(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.value("document.querySelector('.strip img:not(.map)').click()")
    shown, button = "document.querySelector('#viewer .stage img').src", "document.querySelector('#viewer [data-part=map]')"
    plain = browser.value(shown)
    assert not browser.value(f"{button}.hidden")
    browser.value(f"{button}.click()")
    path = value_of(browser, "path")
    assert browser.value(shown) == browser.value(f"document.querySelector('.strip [data-path=\"{path}\"] img.map').src") != plain
    assert browser.value(f"{button}.ariaPressed") == "true"
    browser.value(f"{button}.click()")
    assert browser.value(shown) == plain


def test_a_cell_of_the_confusion_matrix_shows_its_images(browser: Browser, large: Path, large_run: Run) -> None:
    own = Predictions.load(large_run.folder.predictions / "test.npz")
    said = own.logits.argmax(axis=1)
    browser.open(large)
    cells = browser.value("[...document.querySelectorAll('rect.hit')].map(cell => cell.dataset.of)")
    row, column = next(map(int, cell.split("-")) for cell in cells if len(set(cell.split("-"))) == 2)
    browser.value(f"document.querySelector('rect.hit[data-of=\"{row}-{column}\"]').focus()")
    browser.press("Enter", "\r")
    assert browser.value("document.getElementById('viewer-title').textContent") == (
        f"{own.class_names[row]}, predicted as {own.class_names[column]}"
    )
    of_cell = own.ids[(own.labels == row) & (said == column)].tolist()
    assert value_of(browser, "path") in of_cell
    assert browser.value("document.querySelectorAll('#viewer .film li').length") == len(of_cell)
    browser.press("Escape")
    browser.value("document.querySelector('td[data-of][role]').click()")
    assert browser.value(OPEN) and browser.value("document.querySelectorAll('#viewer .film li').length") > 0


def test_a_mark_of_all_classes_shows_its_images(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.value("document.getElementById('matrix').scrollIntoView()")
    square = "document.querySelector('#matrix g.all-cells path').getBoundingClientRect()"
    left, top, side = (browser.value(f"{square}.{name}") for name in ("left", "top", "width"))
    order = [int(label) for label in browser.value("document.getElementById('matrix').dataset.order").split()]
    cells = [tuple(map(int, cell.split("-"))) for cell in browser.value("document.getElementById('matrix').dataset.cells").split()]
    row, column, _ = next(cell for cell in cells if cell[0] == cell[1] and order.index(cell[0]) < 50)
    x, y = (place + side * (order.index(label) + 0.5) / len(order) for place, label in ((left, column), (top, row)))
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert browser.value(OPEN)
    assert browser.value("document.getElementById('viewer-title').textContent").endswith(", predicted correctly")


def test_mistakes_are_filtered_by_class(browser: Browser, large: Path) -> None:
    browser.open(large)
    groups = "[...document.querySelectorAll('.mistakes details')].filter(part => part.checkVisibility()).map(part => part.innerText)"
    before = browser.value(groups)
    browser.value("document.getElementById('filter').focus()")
    browser.call("Input.insertText", text="ESPECIES 19")
    found = browser.value(groups)
    assert 0 < len(found) < len(before) and all("species 19" in text for text in found)
    browser.value("document.querySelector('.mistakes details:not([hidden])').open = true")
    assert browser.value("document.querySelector('.mistakes details[open] li').checkVisibility()")


def test_the_contents_mark_the_section_in_view_and_fold_on_narrow_screens(browser: Browser, large: Path) -> None:
    marked = "[...document.querySelectorAll('.contents a[aria-current]')].map(link => link.hash)"
    links = "document.querySelector('.contents a').checkVisibility()"
    browser.open(large, width=1400)
    assert browser.value(links) and browser.value(marked) == ["#answer"]
    browser.press("Tab")
    assert browser.value("document.activeElement.closest('.contents') !== null"), "the first stop of the keyboard"
    browser.value("document.getElementById('confusion').scrollIntoView()")
    browser.call("Runtime.evaluate", expression="new Promise(done => setTimeout(done, 100))", awaitPromise=True)
    assert browser.value(marked) == ["#confusion"]
    browser.open(large, width=420)
    assert not browser.value(links)
    browser.value("document.querySelector('.contents summary').focus()")
    browser.press("Enter", "\r")
    assert browser.value(links)


@pytest.mark.parametrize("width", [320, 420, 800, 1400])
def test_the_text_of_charts_can_be_read_at_any_width(browser: Browser, large: Path, width: int) -> None:
    browser.open(large, width=width)
    sizes = browser.value(
        "[...document.querySelectorAll('main svg text')].map(text => { const scale = text.getScreenCTM();"
        " return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(scale.a, scale.b); })"
    )
    assert len(sizes) > 50 and min(sizes) >= 9.9


def test_without_script_every_mistake_is_in_a_part_that_opens(browser: Browser, large: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(large, width=420)
        assert browser.value("[...document.querySelectorAll('.scripted')].every(part => !part.checkVisibility())")
        browser.value("document.querySelector('.mistakes summary').click()")
        assert browser.value("document.querySelector('.mistakes details li').checkVisibility()")
        browser.value("document.querySelector('.contents summary').click()")
        assert browser.value("document.querySelector('.contents a').checkVisibility()")
        browser.open(large, width=1400)
        assert browser.value("document.querySelector('.contents a').checkVisibility()"), "there it is always open"
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_labels_of_mistakes_stay_on_one_line(browser: Browser, large: Path) -> None:
    browser.open(large, width=1300)
    labels = "[...document.querySelectorAll('.gallery .said dt')]"
    lines = browser.value(f"{labels}.map(label => label.offsetHeight / parseFloat(getComputedStyle(label).lineHeight))")
    assert lines and max(lines) < 1.5


def test_the_charts_of_trust_need_no_scrolling_on_a_telephone(browser: Browser, large: Path) -> None:
    browser.open(large, width=420)
    boxes = "[...document.querySelectorAll('.charts.wide figure, .beside figure')].filter(figure => !figure.closest('#confusion ~ *'))"
    assert browser.value(f"{boxes}.length > 0 && {boxes}.every(figure => figure.scrollWidth <= figure.clientWidth)")


def test_the_pairs_confused_most_need_no_scrolling_on_a_telephone(browser: Browser, large: Path) -> None:
    browser.open(large, width=420)
    box = "document.querySelector('.pairs').parentElement"
    assert browser.value(f"{box}.scrollWidth <= {box}.clientWidth")
