"""The page in headless Chromium."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from quovadis.video.writer import write_video
from tests.synthetic import moving_square
from tests.web.conftest import LABELS, Served, gif_bomb, long_video

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to steer a browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

_MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as steering:
        # No host name can be resolved, so that a page with external resources fails.
        rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        browser = steering.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
        yield browser
        browser.close()


class Visit:
    """A browser tab with the page."""

    def __init__(self, browser: Any, url: str, **options: Any):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(_MILLISECONDS)
        self.outside: list[str] = []
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda r: self._note(r.url, url))
        self.page.on("dialog", lambda d: (self.dialogs.append(d.message), d.dismiss()))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector(".qv-head")

    def _note(self, asked: str, url: str) -> None:
        if not asked.startswith((url, "data:", "blob:")):
            self.outside.append(asked)

    def send(self, path: Path, where: str = "recognize-file") -> None:
        clear = self.page.locator(f"#{where} [aria-label=Clear]")
        if clear.count():
            clear.click()
            self.page.wait_for_selector(f"#{where} input[type=file]", state="attached")
        self.page.set_input_files(f"#{where} input[type=file]", path)

    def result(self) -> str:
        return str(self.page.locator("#recognize-result .qv-bars").inner_text())

    def error(self) -> str:
        return str(self.page.locator("#recognize-status .qv-error").inner_text())

    def fits(self, width_px: int) -> bool:
        """Whether the page fits a screen of that width without horizontal scrolling."""
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": width_px, "height": 844})
        self.page.wait_for_timeout(300)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        self.page.set_viewport_size(before)
        return bool(width == width_px)

    def seconds(self, which: str) -> float:
        return float(self.page.evaluate(f"document.querySelector('video[data-video={which}]').currentTime"))


@pytest.fixture
def visit(browser: Any, server: Served) -> Iterator[Visit]:
    visit = Visit(browser, server.url)
    yield visit
    assert visit.outside == []
    assert visit.dialogs == []
    assert visit.errors == []
    visit.context.close()


def test_upload_result_seek_and_files(visit: Visit, clip: Path) -> None:
    visit.send(clip)
    assert all(label in visit.result() for label in LABELS)
    page = visit.page
    assert page.evaluate("document.querySelector('video[data-video=recognize]').duration") == pytest.approx(2, abs=0.1)
    line = page.locator("#recognize-timeline .qv-timeline")
    line.click(position={"x": 0.75 * line.bounding_box()["width"], "y": 50})
    assert visit.seconds("recognize") == pytest.approx(1.5, abs=0.03)
    page.wait_for_function("Math.abs(parseFloat(document.querySelector('.qv-now').style.left) - 75) < 2")
    evidence = page.locator("#recognize-result .qv-evidence button")
    assert evidence.count() == 8
    evidence.nth(4).click()
    assert visit.seconds("recognize") == pytest.approx(1.12, abs=0.03)
    page.locator(".qv-moments:not(.qv-evidence) button").first.click()
    assert visit.seconds("recognize") == pytest.approx(0.12, abs=0.03)
    with page.expect_download() as download:
        page.get_by_text("JSON", exact=True).first.click()
    assert download.value.suggested_filename == "clip.recognition.json"
    assert json.loads(Path(download.value.path()).read_text())["video"]["name"] == "clip.mp4"
    with page.expect_download() as download:
        page.get_by_text("CSV", exact=True).first.click()
    assert Path(download.value.path()).read_text().startswith("start_seconds,stop_seconds,label,probability\n0.000,")


def test_an_example_and_another_network(visit: Visit) -> None:
    visit.page.locator(".qv-examples:visible button").first.click()
    first = visit.result()
    visit.page.get_by_label("compare:rgb").first.check()
    visit.page.get_by_role("button", name="Recognize", exact=True).click()
    visit.page.wait_for_function(
        "old => { const e = document.querySelector('#recognize-result .qv-bars'); return e && e.innerText != old }",
        arg=first,
    )


def test_a_second_example_replaces_the_first(visit: Visit) -> None:
    examples = visit.page.locator(".qv-examples:visible button")
    examples.nth(1).click()  # a long one
    visit.page.wait_for_selector("#recognize-status .qv-progress")
    examples.nth(2).click()
    visit.page.wait_for_selector(".qv-player :text('star_spins.mp4')")
    visit.page.wait_for_selector("a[download='star_spins.recognition.json']")
    visit.page.wait_for_timeout(1000)  # the canceled result must not appear later
    assert visit.page.locator("a[download='star_spins.recognition.json']").count() == 1


def test_a_file_that_is_too_large_is_rejected(visit: Visit, tmp_path: Path, clip: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(b"0123456789abcdef" * (3 * 2**16))
    visit.send(large)
    visit.page.get_by_text("exceed the maximum allowed size").first.wait_for()
    visit.page.reload()
    visit.send(clip)
    assert LABELS[0] in visit.result()


def test_errors_are_shown_and_the_next_upload_works(visit: Visit, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 100)
    visit.send(text)
    assert visit.error().startswith("notes.mp4 is not a video that FFmpeg can open")
    visit.send(long_video(tmp_path / "long.mp4"))
    visit.page.wait_for_selector("#recognize-status :text('2:00:00 long')")
    visit.send(gif_bomb(tmp_path / "bomb.gif"))
    visit.page.wait_for_selector("#recognize-status :text('million pixels')")
    visit.send(clip)
    assert LABELS[0] in visit.result()


def test_file_names_with_markup_are_escaped(visit: Visit, clip: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>'\"&amp;.mp4"
    visit.send(Path(shutil.copy(clip, tmp_path / name)))
    assert LABELS[0] in visit.result()
    assert visit.page.locator("img[src=x]").count() == 0
    assert "onerror=alert(1)" in visit.page.locator(".qv-player figcaption").inner_text()
    assert visit.page.evaluate("document.querySelector('video[data-video=recognize]').readyState") > 0
    bad = tmp_path / "<script>alert(2)<.mp4"
    bad.write_text("no video " * 100)
    visit.send(bad)
    assert "alert(2)" in visit.error()


def test_unplayable_videos_are_shown_as_previews(visit: Visit, tmp_path: Path) -> None:
    visit.send(write_video(tmp_path / "old.avi", moving_square(30, 48, 64), fps=15, codec="mpeg4"))
    assert LABELS[0] in visit.result()
    visit.page.wait_for_function("document.querySelector('video[data-video=recognize]').readyState > 0")
    assert visit.page.evaluate("document.querySelector('video[data-video=recognize]').duration") == pytest.approx(
        2, abs=0.1
    )


def test_compare_models_and_clips(visit: Visit, clip: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Compare models").click()
    visit.send(clip, "compare-file")
    page.wait_for_selector("video[data-video=compare]")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_selector("#compare-result :text('of the time')")
    assert page.locator("#compare-timeline .qv-timeline").count() == 2
    assert visit.fits(390)
    page.get_by_role("tab", name="Compare clips").click()
    visit.send(clip, "features-first")
    visit.send(clip, "features-second")
    page.wait_for_selector("video[data-video=features-second]")
    page.wait_for_selector("video[data-video=features-first]")
    page.get_by_role("button", name="Compare features").click()
    assert page.locator("#features-result .qv-number b").inner_text() == "1.000"
    matrix = page.locator(".qv-matrix img")
    matrix.click(position={"x": 2, "y": matrix.bounding_box()["height"] - 2})
    assert visit.seconds("features-first") > visit.seconds("features-second")
    assert visit.fits(390)


def test_a_closed_tab_does_not_block_the_next_user(browser: Any, server: Served, clip: Path, tmp_path: Path) -> None:
    long = write_video(tmp_path / "slow.mp4", moving_square(200).repeat(7, 1, 1, 1), options={"preset": "ultrafast"})
    gone = Visit(browser, server.url)
    gone.send(long)
    gone.page.wait_for_selector("#recognize-status :text('window')")
    gone.context.close()
    here = Visit(browser, server.url)
    here.send(clip)
    assert LABELS[0] in here.result()
    here.context.close()
    with urlopen(server.url, timeout=30) as answer:
        assert answer.status == 200


def test_a_narrow_screen_does_not_scroll_sideways(browser: Any, server: Served, clip: Path) -> None:
    narrow = Visit(browser, server.url, viewport={"width": 390, "height": 844})
    narrow.send(clip)
    assert LABELS[0] in narrow.result()
    narrow.page.wait_for_selector("#recognize-timeline .qv-timeline")
    answer, line = (narrow.page.locator(f"#recognize-{part}").bounding_box() for part in ("result", "timeline"))
    assert answer["y"] < line["y"]
    assert narrow.page.evaluate("document.documentElement.scrollWidth") == 390
    assert narrow.outside == []
    narrow.context.close()
