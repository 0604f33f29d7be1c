"""The page of the server in a real browser."""

import json
import re
import urllib.parse
from importlib.resources import files

import pytest
from browser import CHROMIUM, Browser
from PIL import Image
from servers import Server

KEY = "open-sesame-1"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
ANSWERED = "document.body.dataset.state === 'answered'"
FOCUSED = "document.activeElement"
TROUBLE = "!document.getElementById('trouble').hidden"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: the page was not looked at in a browser (Debian: apt install chromium)")
    opened = Browser(tmp_path_factory.mktemp("profile"), *CAMERA)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def keeping(bundle, tmp_path_factory):
    """A server of two models that keeps feedback."""
    with Server(f"first={bundle.path}", f"second={bundle.path}", "--feedback", tmp_path_factory.mktemp("feedback") / "kept") as started:
        yield started


@pytest.fixture(scope="module")
def locked(bundle):
    with Server(bundle.path, environment={"FIELDMARK_API_KEY": KEY}) as started:
        yield started


def choose(browser, file, field="#file"):
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector=field)["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


def drop(browser, *dropped):
    data = {"items": [], "files": [str(each) for each in dropped], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.call("Input.dispatchDragEvent", type=kind, x=200, y=300, data=data)


def text(browser, name):
    return browser.value(f"document.getElementById('{name}').innerText")


def is_shown(browser, name):
    return browser.value(f"document.getElementById('{name}').checkVisibility()")


def rows(browser):
    return browser.value("[...document.querySelectorAll('#classes li')].map(row => row.querySelector('.name').textContent)")


def complaints(browser):
    return [event for event in browser.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]


def test_it_is_small():
    folder = files("fieldmark.serving") / "web"
    assert sum(len(each.read_bytes()) for each in folder.iterdir()) < 100_000


@pytest.mark.parametrize("give", [choose, drop], ids=["chosen", "dropped"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)])
def test_an_image_is_answered_as_the_api_answers(browser, server, images, give, width, height):
    expected = server.predict(images[0].read_bytes()).json()["answers"][0]
    browser.open(f"{server.url}/", width, height)
    give(browser, images[0])
    browser.wait_until(ANSWERED)
    names = [each["name"] for each in expected["classes"]]
    assert rows(browser) == names
    assert text(browser, "headline") in ("Unknown", names[0], *expected["coarser"].values())
    assert (text(browser, "headline") == "Unknown") == bool(expected["unknown"])
    assert text(browser, "headline") in text(browser, "spoken")
    assert is_shown(browser, "seen") and not is_shown(browser, "preview") and not is_shown(browser, "video")
    square = "document.getElementById('seen').getContext('2d').getImageData(320, 320, 1, 1).data[3]"
    assert browser.value(square) == 255
    assert len(browser.value("[...document.querySelectorAll('#pictures img')].map(each => each.naturalWidth > 0)")) == 5
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    requested = [event["params"]["request"]["url"] for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
    assert requested and {urllib.parse.urlsplit(url)[:2] for url in requested if not url.startswith(("data:", "blob:"))} == {
        urllib.parse.urlsplit(server.url)[:2]
    }
    assert complaints(browser) == []


def test_the_bars_are_as_long_as_the_probabilities(browser, server, images):
    expected = server.predict(images[0].read_bytes()).json()["answers"][0]["classes"]
    browser.open(f"{server.url}/")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    share = "each.getBoundingClientRect().width / each.parentElement.getBoundingClientRect().width"
    assert browser.value(f"[...document.querySelectorAll('.bar span')].map(each => {share})") == pytest.approx(
        [each["probability"] for each in expected], abs=0.02
    )


def test_an_image_can_be_pasted(browser, server, images):
    browser.open(f"{server.url}/")
    browser.value(
        "const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 64});"
        "canvas.getContext('2d').fillRect(0, 0, 64, 32);"
        "canvas.toBlob(blob => { const data = new DataTransfer(); data.items.add(new File([blob], 'pasted.png', {type: 'image/png'}));"
        "dispatchEvent(new ClipboardEvent('paste', {clipboardData: data})); })"
    )
    browser.wait_until(ANSWERED)


def test_it_can_be_used_by_keyboard_alone(browser, keeping, images):
    browser.open(f"{keeping.url}/")
    browser.wait_until("document.getElementById('model').length === 2")
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    browser.wait_until("!document.getElementById('correct').hidden")
    browser.value("document.activeElement.blur()")
    reached = []
    while "search" not in reached and len(reached) < 20:
        browser.press("Tab")
        reached.append(browser.value(f"{FOCUSED}.id || {FOCUSED}.className"))
        outlined = f"[{FOCUSED}, {FOCUSED}.closest('.button')].some(each => each && getComputedStyle(each).outlineStyle === 'solid')"
        assert browser.value(outlined), reached
    for name in ("model", "file", "camera", "right", "search"):
        assert name in reached


def test_everything_that_can_be_used_has_a_name_and_the_size_of_a_thumb(browser, keeping, images):
    browser.open(f"{keeping.url}/", 360, 740)
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    browser.wait_until("!document.getElementById('correct').hidden")
    controls = browser.value(
        "[...document.querySelectorAll('button, select, input, summary')].filter(each => each.checkVisibility())"
        ".map(each => [each.ariaLabel || each.innerText || [...each.labels ?? []].map(label => label.textContent).join(),"
        "Math.min(...['width', 'height'].map(side => (each.closest('.button') ?? each).getBoundingClientRect()[side]))])"
    )
    assert len(controls) >= 8
    assert all(name.strip() and size >= 44 for name, size in controls), controls


def test_an_answer_is_corrected_by_one_click(browser, keeping, images):
    browser.open(f"{keeping.url}/")
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    second = rows(browser)[1]
    browser.value("document.querySelectorAll('#classes .right')[1].click()")
    browser.wait_until(f"document.getElementById('kept').textContent.startsWith('Kept as {second}')")
    assert browser.value("[...document.querySelectorAll('.right')].map(each => each.ariaPressed)")[:2] == ["false", "true"]


def test_the_right_class_is_searched_or_named(browser, keeping, images):
    browser.open(f"{keeping.url}/")
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    browser.wait_until("!document.getElementById('correct').hidden")
    name = keeping.client.get("/v1/classes", params={"model": "first"}).json()["classes"][-1]
    browser.value("document.getElementById('search').focus()")
    browser.call("Input.insertText", text=name[:-1].upper())
    browser.wait_until(f"[...document.querySelectorAll('#matches button')].some(each => each.textContent === {json.dumps(name)})")
    browser.value("document.getElementById('search').select()")
    browser.call("Input.insertText", text="A new one")
    assert text(browser, "matches") == "“A new one”, which is new"
    browser.press("Enter", "\r")
    browser.wait_until("document.getElementById('kept').textContent.startsWith('Kept as A new one')")


def test_the_model_can_be_changed(browser, keeping, images):
    browser.open(f"{keeping.url}/")
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    browser.events.clear()
    browser.value("(model => { model.value = 'second'; model.dispatchEvent(new Event('change')); })(document.getElementById('model'))")
    browser.wait_until(ANSWERED)
    asked = [event["params"]["request"]["url"] for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
    assert f"{keeping.url}/v1/explain?model=second" in asked


def test_a_key_is_asked_for(browser, locked, images):
    browser.open(f"{locked.url}/")
    browser.wait_until("!document.getElementById('unlock').hidden")
    assert not is_shown(browser, "frame")
    for key, seen in (
        ("wrong", "document.getElementById('unlock-trouble').textContent !== ''"),
        (KEY, "document.getElementById('unlock').hidden"),
    ):
        browser.call("Input.insertText", text=key)
        browser.press("Enter", "\r")
        browser.wait_until(seen)
    choose(browser, images[0])
    browser.wait_until(ANSWERED)


def test_what_is_no_image_is_told_in_words(browser, server, images, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear Fieldmark")
    browser.open(f"{server.url}/")
    choose(browser, tmp_path / "letter.jpg")
    browser.wait_until(TROUBLE)
    assert "not an image" in text(browser, "trouble") and "JPEG" in text(browser, "trouble")
    assert not any(is_shown(browser, each) for each in ("retry", "answer", "map"))
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    assert not is_shown(browser, "trouble")


@pytest.mark.parametrize(("status", "said"), [(429, "more to do"), (503, "not ready")])
def test_a_busy_server_is_told_and_asked_again(browser, server, images, status, said):
    browser.open(f"{server.url}/")
    browser.wait_until("document.getElementById('served').textContent !== ''")
    busy = f"new Response('{{}}', {{status: {status}, headers: {{'Retry-After': '1'}}}})"
    browser.value(f"(real => {{ fetch = () => {{ fetch = real; return Promise.resolve({busy}); }}; }})(fetch)")
    choose(browser, images[0])
    browser.wait_until(TROUBLE)
    assert said in text(browser, "trouble") and is_shown(browser, "retry")
    browser.wait_until(ANSWERED)
    assert not is_shown(browser, "trouble")


@pytest.mark.parametrize("limit", [("--max-megapixels", "1"), ("--max-mb", "0.5")], ids=["pixels", "bytes"])
def test_too_large_an_image_is_told_in_words(browser, bundle, tmp_path, limit):
    Image.effect_noise((1200, 1200), 100).save(tmp_path / "large.png")
    with Server(bundle.path, *limit) as small:
        browser.open(f"{small.url}/")
        choose(browser, tmp_path / "large.png")
        browser.wait_until(TROUBLE)
    assert "too large" in text(browser, "trouble")


def test_a_server_that_has_gone_is_told_and_tried_again(browser, bundle, images):
    with Server(bundle.path) as first:
        browser.open(f"{first.url}/")
        browser.wait_until("document.getElementById('served').textContent !== ''")
        first.stop()
        choose(browser, images[0])
        browser.wait_until(TROUBLE)
        assert "does not answer" in text(browser, "trouble") and is_shown(browser, "retry")
        with Server(bundle.path, port=first.port):
            browser.value("document.getElementById('retry').click()")
            browser.wait_until(ANSWERED)


def test_the_camera_is_followed_and_held(browser, server):
    browser.open(f"{server.url}/", 390, 844)
    browser.wait_until("document.getElementById('served').textContent !== ''")
    browser.value("document.getElementById('camera').click()")
    browser.wait_until("document.getElementById('caption').textContent.includes('answers a second')")
    assert is_shown(browser, "video") and text(browser, "headline")
    browser.value(
        "new MutationObserver(() => spoken++).observe(document.getElementById('spoken'), {childList: true}); var spoken = 0, drawn = 0"
    )
    browser.value("new MutationObserver(() => drawn++).observe(document.getElementById('classes'), {childList: true, subtree: true})")
    browser.wait_until("drawn > 12")
    assert browser.value("spoken") <= 1
    browser.value("document.getElementById('hold').click()")
    browser.wait_until(ANSWERED)
    assert browser.value("document.getElementById('video').srcObject") is None


def test_a_photo_can_be_taken_where_the_browser_keeps_the_camera_from_pages(browser, server, images):
    source = "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})"
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"]
    browser.open(f"{server.url}/", 360, 740)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    assert is_shown(browser, "capture-choice") and not is_shown(browser, "camera")
    choose(browser, images[0], "#capture")
    browser.wait_until(ANSWERED)


def test_where_it_looked_is_shown_or_not(browser, server, images):
    browser.open(f"{server.url}/")
    choose(browser, images[0])
    browser.wait_until(ANSWERED)
    drawn = "document.getElementById('seen').toDataURL()"
    with_map, said = browser.value(drawn), browser.value("document.getElementById('seen').ariaLabel")
    browser.value("document.getElementById('map').click()")
    without = browser.value(drawn)
    assert with_map != without and "evidence" in said
    assert "evidence" not in browser.value("document.getElementById('seen').ariaLabel")
    browser.value("document.getElementById('map').click()")
    assert browser.value(drawn) == with_map


def steady(browser, frames, of_each):
    """What is shown after each frame; a frame is the probability of a, where there are a and b, and whether it is unknown."""
    return browser.value(
        "(() => { const steady = new Steady({settles: 1 / Math.log(2), frames: 3});"
        "const classes = a => [{name: 'a', probability: a}, {name: 'b', probability: 1 - a}];"
        "const answer = (a, unknown) => ({classes: classes(a), unknown, set: [], coarser: {}, note: ''});"
        f"return {json.dumps(frames)}.map(frame => steady.add(answer(...frame), 1)).map({of_each}); }})()"
    )


def test_another_class_is_shown_only_once_it_has_led_for_several_frames(browser, server):
    browser.open(f"{server.url}/")
    shown = steady(
        browser, [(a, False) for a in (0.9, 0, 0.9, 0.1, 0.1, 0.1, 0.1)], "({classes: [first]}) => [first.name, first.probability]"
    )
    means = [0.9, 0.45, 0.675, 0.3875, 0.24375, 0.171875, 0.1359375]
    assert [name for name, _ in shown] == ["a", "a", "a", "a", "a", "b", "b"]
    assert [probability for _, probability in shown] == pytest.approx([*means[:5], *(1 - mean for mean in means[5:])])


def test_one_frame_does_not_make_the_image_unknown(browser, server):
    browser.open(f"{server.url}/")
    frames = [(0.9, unknown) for unknown in (False, True, True, False, False)]
    assert steady(browser, frames, "shown => shown.unknown") == [False, False, True, True, False]


def test_the_policy_allows_the_own_scripts_and_no_other(server):
    response = server.client.get("/")
    scripts = re.findall(r"<script>", response.text)
    policy = response.headers["content-security-policy"]
    (allowed,) = re.findall(r"script-src ([^;]+)", policy)
    assert len(scripts) == 5 and allowed.count("'sha256-") == 6 and "unsafe" not in policy
