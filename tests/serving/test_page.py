"""The page, in headless Chromium: what a user sees, and what the page asks of whom."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")
pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")

from playwright.sync_api import sync_playwright

from hhmnet.serving import Limits
from hhmnet.serving.workers import load
from made_bodies import write_clip
from made_models import skeleton_model
from made_server import PATIENCE, listening
from made_video import write_video

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; apt-get install chromium")
TOKEN = "a-token-of-many-letters"
WEBCAM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as start:
        found = start.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *WEBCAM])
        yield found
        found.close()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, Path]]:
    with listening(page=True) as (port, folder, _):
        yield port, folder


@pytest.fixture
def page(browser: Any, server: tuple[int, Path]) -> Iterator[Any]:
    with_page = _opened(browser, server[0])
    yield with_page
    with_page.context.close()


def _opened(browser: Any, port: int) -> Any:
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.asked, page.faults = [], []
    page.on("request", lambda request: page.asked.append((request.method, request.url)))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}/", timeout=1000 * PATIENCE)
    return page


def _drawn(page: Any) -> int:
    """Pixels of the overlay in the colour of a left limb."""
    return int(
        page.evaluate(
            """() => {
              const canvas = document.querySelector("#stage canvas.skeleton");
              if (!canvas.width || !canvas.height) return 0;
              const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              let count = 0;
              for (let i = 0; i < data.length; i += 4) {
                const [red, green, blue, cover] = data.slice(i, i + 4);
                count += red > 200 && green < 160 && blue < 80 && cover > 200;
              }
              return count;
            }"""
        )
    )


def _until_it_says(page: Any, text: str) -> None:
    page.wait_for_selector(f"#stage .status:has-text({text!r})")


def test_a_video_is_answered_and_shown_and_nothing_leaves_for_another_host(
    page: Any, server: tuple[int, Path], tmp_path: Path
) -> None:
    _until_it_says(page, "3 actions; looks at skeleton and video")
    page.set_input_files("#stage input.file", write_video(tmp_path / "clip.mp4"))
    page.wait_for_selector("#answer :text('70%')")
    assert "walk" in page.inner_text("#answer")
    page.wait_for_function("() => document.querySelector('#votes').innerText.includes('70.0 %')")
    votes = page.inner_text("#votes").split()
    assert (votes[votes.index("joint") + 1], votes[votes.index("video") + 1]) == ("walk", "sit")
    assert "by skeleton and video" in page.inner_text("#stage .status")
    assert page.is_visible("#figures .guidance canvas")
    assert not page.is_visible("#figures .timeline")  # no longer than a window, so the answer says it all
    assert not list(server[1].iterdir())
    page.wait_for_timeout(1000)
    web = [url for _, url in page.asked if urlsplit(url).scheme in ("http", "https", "ws", "wss")]
    assert {urlsplit(url).netloc for url in web} == {f"127.0.0.1:{server[0]}"}
    assert {urlsplit(url).path for method, url in page.asked if method != "GET"} == {"/api/v1/predict"}
    assert page.faults == []


def test_a_skeleton_is_drawn_without_a_video(page: Any, tmp_path: Path) -> None:
    (tmp_path / "clip.json").write_text("{}")
    page.set_input_files("#stage input.file", tmp_path / "clip.json")
    page.wait_for_selector("#answer :text('70%')")
    page.wait_for_function("() => document.querySelector('#stage canvas.skeleton').height === 480")
    page.wait_for_timeout(500)
    assert _drawn(page) > 100
    page.uncheck("#stage input.drawn")
    page.wait_for_timeout(500)
    assert _drawn(page) == 0


def test_the_timeline_is_drawn_and_leads_through_the_clip(page: Any, tmp_path: Path) -> None:
    def until_it_is(value: str) -> None:
        page.wait_for_function(f"() => document.querySelector('#figures .plot').{value}")

    (tmp_path / "clip.json").write_text('{"frames": 240, "persons": 2}')
    _until_it_says(page, "3 actions")
    page.set_input_files("#stage input.file", tmp_path / "clip.json")
    _until_it_says(page, "answered in")
    assert "answer on the 2 s around it" in page.inner_text("#figures .timeline figcaption")
    assert page.locator("#figures .plot path").count() == 3  # a line for each class
    assert page.locator("#figures .plot rect").count() == 2
    assert page.locator("#figures .segments button").all_inner_texts()[0].startswith("sit, 0.0\u20132.9 s, ")
    assert "person 2: walk" in page.inner_text("#figures .others")
    page.click("#figures .segments li:nth-child(2) button")
    until_it_is("ariaValueText.startsWith('2.9 seconds: ')")
    assert page.inner_text("#stage .pause") == "Play"  # it stays where one went
    box = page.locator("#figures .plot").bounding_box()
    page.mouse.click(box["x"] + 46 + 0.75 * (box["width"] - 60), box["y"] + 50)
    until_it_is("ariaValueText.startsWith('6.0 seconds: walk')")
    head = page.locator("#figures .playhead")
    before = float(head.get_attribute("x1"))
    page.press("#figures .plot", "ArrowLeft")
    until_it_is("ariaValueNow === '5.9'")
    assert float(head.get_attribute("x1")) < before
    page.press("#figures .plot", "Home")
    until_it_is("ariaValueText.startsWith('0.0 seconds: sit')")
    page.click("#stage .pause")
    until_it_is("ariaValueNow > 0.5")
    assert page.faults == []


def test_the_webcam_is_recorded_and_answered(page: Any) -> None:
    _until_it_says(page, "3 actions")
    page.click("#stage .record")
    _until_it_says(page, "recording")
    page.wait_for_timeout(1500)
    page.click("#stage .record")
    page.wait_for_selector("#answer :text('70%')")
    assert [url for method, url in page.asked if method == "POST"][-1].endswith("/api/v1/predict")


def test_a_refusal_is_shown_as_text(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "<img src=x onerror=document.title=1>.txt"
    file.write_text("words")
    _until_it_says(page, "3 actions")
    page.set_input_files("#stage input.file", file)
    _until_it_says(page, "is nothing that this server takes")
    assert "<img" in page.inner_text("#stage .status")
    assert page.query_selector("#stage .status img") is None


def test_modalities_are_chosen(page: Any, tmp_path: Path) -> None:
    _until_it_says(page, "3 actions")
    page.click("#modalities label:has-text('video')")
    page.set_input_files("#stage input.file", write_video(tmp_path / "clip.mp4"))
    _until_it_says(page, "by skeleton")
    assert "video" not in page.inner_text("#stage .status")
    page.click("#modalities label:has-text('video')")  # asks again
    _until_it_says(page, "by skeleton and video")
    page.click("#modalities label:has-text('video')")
    page.click("#modalities label:has-text('skeleton')")
    _until_it_says(page, "choose what to go by")


def test_the_token_is_asked_for(browser: Any) -> None:
    with listening(page=True, token=TOKEN) as (port, _, _):
        page = _opened(browser, port)
        _until_it_says(page, "send the server's token")
        assert "walk" not in page.content()  # the page alone tells nothing of the model
        page.fill("#token input", TOKEN)
        _until_it_says(page, "3 actions")
        page.context.close()


def test_actions_are_taught_in_the_page(browser: Any, tmp_path: Path) -> None:
    skeleton_model().save_pretrained(tmp_path / "model")
    make = partial(load, str(tmp_path / "model"), "cpu", False)
    with listening(Limits(videos=False, answer_seconds=PATIENCE), page=True, recognizer=make) as (port, _, _):
        page = _opened(browser, port)
        _until_it_says(page, "4 actions")
        page.wait_for_selector("#answer:has-text('nod, wave, kick, sit')")
        page.click("#teach summary")
        page.click("#teach .add-examples")
        page.wait_for_selector("#teach .lesson.bad")  # an action has a name
        for pose in ("arms up", "<b>crouch</b>"):
            clips = [write_clip(tmp_path / f"{seed}.npz", pose.strip("</b>"), seed) for seed in range(2)]
            page.fill("#teach .label", pose)
            page.set_input_files("#teach .examples", clips)
            page.wait_for_selector(f"#teach .taught li:has-text('{pose}: 2 examples')")
        page.set_input_files("#stage input.file", write_clip(tmp_path / "new.npz", "crouch", 50))
        page.wait_for_selector("#answer h2:has-text('<b>crouch</b>')")
        with page.expect_download() as download:
            page.click("#teach .download")
        assert zipfile.is_zipfile(download.value.path())
        page.uncheck("#teach .use")  # asks again
        page.wait_for_selector("#answer label:has-text('nod')")
        page.click("#teach .forget")
        page.wait_for_selector("#teach .use:disabled")
        assert page.locator("#teach .taught li").count() == 0
        assert page.faults == []
        page.context.close()
