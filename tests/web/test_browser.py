"""The page in headless Chromium."""

import csv
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
        camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        browser = steering.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules, *camera])
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


SCREENS = {
    f"{device}-{scheme}": {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    for device, width in (("desktop", 1120), ("phone", 390))
    for scheme in ("light", "dark")
}

_LOWEST_CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = channels(color).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0.99) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const names = ["p", "h1", "h3", "b", "span", "summary", "label", "td", "a"].map((name) => `.qv ${name}`);
  const texts = document.querySelectorAll(names.join());
  return Math.min(...[...texts].filter((e) => e.checkVisibility() && e.textContent.trim()).map((e) => {
    const [a, b] = [getComputedStyle(e).color, ground(e)].map(luminance).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""
"""The lowest contrast between a text of the page and its background, by the definition of WCAG."""


@pytest.fixture(params=SCREENS)
def screen(request: pytest.FixtureRequest, browser: Any, plain_server: Served) -> Iterator[tuple[str, Visit]]:
    """The page with one model and without examples, on every screen and color scheme."""
    visit = Visit(browser, plain_server.url, permissions=["camera"], **SCREENS[request.param])
    yield request.param, visit
    assert visit.outside == []
    assert visit.errors == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") == visit.page.viewport_size["width"]
    visit.context.close()


def test_the_empty_page_invites_and_describes_the_model(screen: tuple[str, Visit]) -> None:
    name, visit = screen
    page = visit.page
    assert page.locator(".qv-model").inner_text() == "2 classes (<b>left</b>, right & on), RGB; i3d_tiny (rgb)"
    assert page.locator(".qv-invitation li:visible").count() == 3
    page.locator(".qv-invitation summary").click()
    assert page.locator(".qv-labels span").all_inner_texts() == list(LABELS)
    assert page.get_by_role("button", name="record 5 seconds with the camera").is_visible()
    assert page.locator(".qv-examples:visible").count() == 0
    assert page.get_by_role("tab", name="Compare models").count() == 0
    assert not page.locator("#recognize-draw-flow").is_visible()
    assert page.evaluate(_LOWEST_CONTRAST) >= 4.5
    ink = page.evaluate("getComputedStyle(document.querySelector('.qv h1')).color")
    assert (min(map(int, ink[4:-1].split(","))) > 128) == name.endswith("dark")


def test_the_result_replaces_the_invitation(screen: tuple[str, Visit], clip: Path) -> None:
    name, visit = screen
    page = visit.page
    visit.send(clip)
    assert LABELS[0] in visit.result()
    assert not page.locator(".qv-invitation").is_visible()
    page.wait_for_selector("#recognize-timeline .qv-timeline")
    parts = ("#recognize-result", ".qv-view .qv-player", "#recognize-timeline")
    result, player, line = (page.locator(part).bounding_box() for part in parts)
    assert player["y"] + player["height"] <= line["y"]
    if name.startswith("phone"):
        assert result["y"] + result["height"] <= player["y"]
    else:
        assert player["x"] + player["width"] <= result["x"]
    segment = page.locator(".qv-segments button").first
    assert any(label in segment.inner_text() for label in LABELS)
    page.evaluate("document.querySelector('video').currentTime = 1.5")
    segment.click()
    assert visit.seconds("recognize") == 0
    assert page.evaluate(_LOWEST_CONTRAST) >= 4.5
    page.locator("#recognize-file [aria-label=Clear]").click()
    page.wait_for_selector(".qv-invitation")


def test_activation_maps_follow_the_player(screen: tuple[str, Visit], clip: Path) -> None:
    page = screen[1].page
    screen[1].send(clip)
    page.wait_for_selector("#recognize-timeline .qv-timeline")
    overlay = page.locator(".qv-overlay")
    assert not overlay.is_visible()
    page.locator(".qv-maps-on").check()
    overlay.wait_for()
    player, square = page.locator("video[data-video=recognize]").bounding_box(), overlay.bounding_box()
    # The video has 64 x 48 pixels. Of the 72 pixels of its resized short side, the network processes the central 64.
    scale = min(player["width"] / 64, player["height"] / 48)
    assert square["width"] == square["height"] == pytest.approx(48 * scale * 64 / 72, abs=2)
    for start, size in (("x", "width"), ("y", "height")):
        middle = player[start] + player[size] / 2
        assert square[start] + square[size] / 2 == pytest.approx(middle, abs=2)
    seconds = json.loads(page.locator(".qv-maps").get_attribute("data-seconds"))
    drawn = []
    for step in (0, len(seconds) - 1):
        page.evaluate(f"document.querySelector('video').currentTime = {seconds[step]}")
        page.wait_for_function(
            f"Math.abs(Number(document.querySelector('.qv-overlay').dataset.seconds) - {seconds[step]}) < 0.002"
        )
        expected, found = page.evaluate(_MAP_OPACITIES, step)
        assert found == pytest.approx(expected, abs=4)
        drawn.append(found)
    assert drawn[0] != drawn[1]
    page.locator(".qv-maps select").select_option(index=1)
    page.wait_for_timeout(300)
    assert page.evaluate(_MAP_OPACITIES, len(seconds) - 1)[1] != drawn[1]
    page.locator(".qv-maps-on").uncheck()
    overlay.wait_for(state="hidden")


_MAP_OPACITIES = """(step) => {
  const maps = document.querySelector(".qv-maps");
  const image = maps.querySelectorAll("img")[maps.querySelector("select").value];
  const [w, h] = maps.dataset.cell.split(" ").map(Number), columns = Number(maps.dataset.columns);
  const source = document.createElement("canvas");
  [source.width, source.height] = [image.naturalWidth, image.naturalHeight];
  source.getContext("2d").drawImage(image, 0, 0);
  const overlay = document.querySelector(".qv-overlay");
  const alpha = (canvas, x, y) => canvas.getContext("2d").getImageData(x, y, 1, 1).data[3];
  const cells = [...Array(w * h).keys()].map((i) => [i % w, Math.floor(i / w)]);
  const [left, top] = [w * (step % columns), h * Math.floor(step / columns)];
  return [
    cells.map(([x, y]) => alpha(source, left + x, top + y)),
    cells.map(([x, y]) => alpha(overlay, (x + 0.5) * overlay.width / w, (y + 0.5) * overlay.height / h)),
  ];
}"""
"""The opacities in the cells of the map of a time step, and those that are drawn at the middles of the cells."""


def test_flow_is_drawn_on_request(screen: tuple[str, Visit], clip: Path) -> None:
    page = screen[1].page
    screen[1].send(clip)
    page.wait_for_selector("#recognize-timeline .qv-timeline")
    assert page.locator("#recognize-flow .qv-moments").count() == 0
    page.get_by_role("button", name="Show optical flow").click()
    page.wait_for_selector("#recognize-flow .qv-moments")
    assert not page.locator("#recognize-draw-flow").is_visible()
    page.locator(".qv-moments button").first.click()
    assert screen[1].seconds("recognize") == pytest.approx(0.12, abs=0.03)


def test_camera_records_a_video(screen: tuple[str, Visit]) -> None:
    page = screen[1].page
    page.get_by_role("button", name="record 5 seconds with the camera").click()
    page.wait_for_selector(".qv-camera :text('recording')")
    assert LABELS[0] in screen[1].result()
    assert "camera.webm" in page.locator(".qv-player figcaption").inner_text()


def test_many_videos_give_a_table_that_sorts_and_a_csv_file(
    screen: tuple[str, Visit], clip: Path, tmp_path: Path
) -> None:
    name, visit = screen
    page = visit.page
    if name.startswith("phone"):
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text="Many videos").click()
    else:
        page.get_by_role("tab", name="Many videos").click()
    short = write_video(tmp_path / "b.mp4", moving_square(30, 48, 64), fps=25)
    (tmp_path / "c.mp4").write_text("no video\n" * 100)
    page.set_input_files(
        "#batch-files input[type=file]", [shutil.copy(clip, tmp_path / "a.mp4"), short, tmp_path / "c.mp4"]
    )
    page.wait_for_selector("#batch-files :text('c')")
    page.get_by_role("button", name="Recognize all").click()
    page.wait_for_selector("#batch-result :text('3 of 3 videos')")

    def column(index: int) -> list[str]:
        return [row.locator("td").nth(index).inner_text() for row in page.locator(".qv-table tbody tr").all()]

    assert column(0) == ["a.mp4", "b.mp4", "c.mp4"]
    assert "not a video" in column(2)[2]
    page.get_by_role("button", name="Video", exact=True).click()
    assert column(0) == ["a.mp4", "b.mp4", "c.mp4"]
    page.get_by_role("button", name="Video", exact=True).click()
    assert column(0) == ["c.mp4", "b.mp4", "a.mp4"]
    assert page.locator(".qv-table th").first.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Length").click()
    assert column(1) == ["2 s", "1.2 s", ""]
    page.get_by_role("button", name="Length").click()
    assert column(1) == ["", "1.2 s", "2 s"]
    assert page.evaluate(_LOWEST_CONTRAST) >= 4.5
    with page.expect_download() as download:
        page.locator("#batch-result a[download]").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["video"] for row in rows] == ["a.mp4", "b.mp4", "c.mp4"]
    assert rows[0]["label_1"] in LABELS
    assert "not a video" in rows[2]["error"]


def test_a_folder_is_chosen_for_a_batch(visit: Visit, clip: Path, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Many videos").click()
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("b.mp4", "a.mp4", ".hidden.mp4"):
        shutil.copy(clip, folder / name)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(folder)
    page.wait_for_selector("#batch-files :text('b')")
    page.get_by_role("button", name="Recognize all").click()
    page.wait_for_selector("#batch-result :text('2 of 2 videos')")
    assert page.locator(".qv-table td:first-child").all_inner_texts() == ["a.mp4", "b.mp4"]


def test_comparison_of_clips_on_every_screen(screen: tuple[str, Visit], clip: Path, tmp_path: Path) -> None:
    _, visit = screen
    page = visit.page
    page.get_by_role("tab", name="Compare clips").click()
    short = write_video(tmp_path / "short.mp4", moving_square(14, 48, 64), fps=25)
    for path, matrices, scales in ((clip, 1, 3), (short, 0, 0)):
        for which in ("first", "second"):
            visit.send(path, f"features-{which}")
            page.wait_for_selector(f"video[data-video=features-{which}][src*='{path.name}']")
        button = page.get_by_role("button", name="Compare features")
        assert button.bounding_box()["y"] < page.locator("video[data-video=features-first]").bounding_box()["y"]
        button.click()
        page.wait_for_selector("#features-result .qv-number")
        assert page.locator(".qv-matrix").count() == matrices
        assert page.locator(".qv-scales li").count() == scales
        assert page.evaluate(_LOWEST_CONTRAST) >= 4.5


def test_upload_result_seek_and_files(visit: Visit, clip: Path) -> None:
    visit.send(clip)
    assert all(label in visit.result() for label in LABELS)
    page = visit.page
    assert page.evaluate("document.querySelector('video[data-video=recognize]').duration") == pytest.approx(2, abs=0.1)
    line = page.locator("#recognize-timeline .qv-timeline")
    line.click(position={"x": 0.75 * line.bounding_box()["width"], "y": 50})
    assert visit.seconds("recognize") == pytest.approx(1.5, abs=0.03)
    page.wait_for_function("Math.abs(parseFloat(document.querySelector('.qv-now').style.left) - 75) < 2")
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
    page = visit.page

    def choose(name: str) -> None:
        page.locator(".qv-examples:visible button", has_text=name).click()

    choose("endless")
    page.wait_for_selector("#recognize-status :text('working')")
    choose("delayed")  # shown after a second; canceling the first example must not cancel this
    page.wait_for_selector("a[download='delayed.recognition.json']")
    choose("star")
    page.wait_for_selector("a[download='star_spins.recognition.json']")
    page.wait_for_timeout(1000)  # the canceled result must not appear later
    assert page.locator("a[download='star_spins.recognition.json']").count() == 1
    assert "star_spins.mp4" in page.locator(".qv-view .qv-player").inner_text()


def test_stop_cancels_the_job_and_removes_its_progress(visit: Visit) -> None:
    page = visit.page
    page.locator(".qv-examples:visible button", has_text="endless").click()
    page.wait_for_selector("#recognize-status :text('working')")
    page.get_by_role("button", name="Stop").first.click()
    page.wait_for_function("!document.querySelector('#recognize-status .qv-progress')")
    page.wait_for_timeout(1000)
    assert page.locator("#recognize-status .qv-progress").count() == 0


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
