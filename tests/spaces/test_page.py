"""
The Space's page in a real browser, started from the folder that would be published: `make test-space`, which installs
what it needs. `SCREENSHOTS=FOLDER` keeps pictures of it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import pytest
from PIL import Image, ImageDraw

pytestmark = pytest.mark.space

ROOT = Path(__file__).parents[2]
FLAGS = """
--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=1400,2600
"""
# Of a machine that does other things as well.
PATIENCE = 60


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page, served by a process of its own that knows this package only as it lies in the Space."""
    folder = tmp_path_factory.mktemp("page") / "space"
    shutil.copytree(ROOT / "spaces", folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "src" / "hf_primaldual", folder / "hf_primaldual")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder.parent / "uploads")}
    begun = time.monotonic()
    with subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=env) as server:
        try:
            while not answers(f"http://127.0.0.1:{port}"):
                assert server.poll() is None, "the page did not start"
                assert time.monotonic() < begun + PATIENCE, "the page does not answer"
            print(f"\nthe page answered after {time.monotonic() - begun:.1f} s")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except URLError:
        time.sleep(0.1)
        return False


class Browser:
    """The page, as somebody sees it."""

    def __init__(self, driver, address: str):
        self.driver = driver
        driver.get(address)

    def wait(self, seen, what: str):
        """What `seen` gives, once it gives something."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: seen(), f"not seen: {what}")

    def all(self, css: str) -> list:
        return self.driver.find_elements("css selector", css)

    def text(self, css: str) -> str:
        return " ".join(one.text for one in self.all(css))

    def click(self, name: str, role: str = "button") -> None:
        """Clicks a button or a tab by what its name begins with."""
        path = f"//button[starts-with(normalize-space(), '{name}')]" + ("[@role='tab']" if role == "tab" else "")
        found = self.driver.find_elements
        self.wait(lambda: [one for one in found("xpath", path) if one.is_displayed()], name)[0].click()

    def give(self, css: str, path: Path) -> None:
        """Chooses a file."""
        self.wait(lambda: self.all(css), f"a place for {path.name}")[0].send_keys(str(path))

    def pictures(self, kind: str) -> list:
        """The pictures of a tab that have arrived."""
        arrived = "return arguments[0].complete && arguments[0].naturalWidth"
        shown = self.all(f"[id^={kind}-][id$=-attention] img, [id^={kind}-][id$=-duals] img")
        return [one for one in shown if self.driver.execute_script(arrived, one) > 300]

    def predicted(self, kind: str) -> list[str]:
        """What both models say, once all of a prediction is there."""
        self.wait(lambda: len(self.pictures(kind)) == 4, f"pictures of {kind}")
        rows = self.wait(lambda: self.all(f"#{kind}-costs tbody tr"), "costs")
        assert [row.text.split()[1] for row in rows] == ["softmax", "bn+sh", "softmax", "bn+sh"]
        assert "layer 1:" in self.text(f"#{kind}-bn-sh-support")
        self.keep(kind)
        return [self.text(f"#{kind}-{name}-scores h2").strip() for name in ("softmax", "bn-sh")]

    def refused(self, sentence: str) -> None:
        """The page says a sentence, which is then closed."""
        self.wait(lambda: sentence in self.text(".toast-body"), sentence)
        self.keep(f"refused-{''.join(filter(str.isalpha, sentence))[:20]}")
        for button in self.all(".toast-close"):
            button.click()
        self.wait(lambda: not self.all(".toast-body"), "a closed sentence")

    def draw(self, place: str, start: tuple[int, int], step: tuple[int, int]) -> None:
        """Draws a line of eight steps from `start`, counted from the middle."""
        from selenium.webdriver.common.action_chains import ActionChains

        brush = self.wait(lambda: self.all(f"{place} [aria-label=Brush]"), "the brush")[0]
        self.wait(brush.is_displayed, "the brush in its place")
        brush.click()
        canvas = self.wait(lambda: self.all(f"{place} canvas"), "a place to draw")[0]
        stroke = ActionChains(self.driver).move_to_element_with_offset(canvas, *start).click_and_hold()
        for _ in range(8):
            stroke.move_by_offset(*step)
        stroke.release().perform()

    def keep(self, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder, f"{name}.png")))


@pytest.fixture
def browser(address, tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver, address)
    finally:
        driver.quit()


def asked_hosts(driver) -> set[str]:
    """The hosts that the page asked for anything."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert urls
    return {urlparse(url).hostname for url in urls if urlparse(url).scheme in ("http", "https", "ws", "wss")}


def test_a_series_is_predicted_and_measured_and_bad_ones_are_refused(browser, tmp_path):
    browser.click("Predict the speaker")
    speakers = browser.predicted("series")
    assert all(speaker in "123456789" and speaker for speaker in speakers)
    (tmp_path / "narrow.csv").write_text("a,b\n1,2\n3,4\n")
    browser.give("[data-testid$=upload-button]", tmp_path / "narrow.csv")
    browser.wait(lambda: "c12" not in browser.text("#series-table"), "the table of the file")
    browser.click("Predict the speaker")
    browser.refused("A series must have 12 channels, a column for each, got 2.")
    # What was predicted before is still there.
    assert browser.predicted("series") == speakers
    (tmp_path / "broken.csv").write_text("")
    browser.give("[data-testid$=upload-button]", tmp_path / "broken.csv")
    browser.refused("The file is no CSV that can be read")
    # A page without the network.
    assert asked_hosts(browser.driver) == {"127.0.0.1"}


def test_an_image_is_predicted_and_measured_and_a_bad_one_is_refused(browser, tmp_path):
    browser.click("An image", role="tab")
    browser.click("Predict the digit")
    browser.refused("There is no image")
    picture = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(picture).ellipse((180, 30, 250, 150), outline="black", width=16)
    picture.save(tmp_path / "nought.png")
    browser.give("#images-given input[type=file]", tmp_path / "nought.png")
    browser.wait(lambda: browser.all("#images-given img"), "the picture")
    browser.click("Predict the digit")
    assert "0" in browser.predicted("images")
    assert asked_hosts(browser.driver) == {"127.0.0.1"}


def test_a_channel_is_drawn_and_predicted(browser):
    cells = "#series-table [role=gridcell][data-col='0']"
    before = browser.wait(lambda: browser.text(cells), "the channel")
    browser.click("Draw a channel")
    browser.click("Take the curve")
    browser.refused("There is no curve: draw one from left to right.")
    browser.draw("#series-drawn", (-200, 30), (50, -8))
    browser.click("Take the curve")
    browser.wait(lambda: browser.text(cells) not in ("", before), "the channel as drawn")
    drawn = [float(cell) for cell in browser.text(cells).split()]
    assert drawn == sorted(drawn)
    assert drawn[0] < drawn[-1]
    browser.click("Predict the speaker")
    assert len(browser.predicted("series")) == 2


def test_a_digit_is_drawn_and_predicted(browser):
    browser.click("An image", role="tab")
    browser.click("Draw a digit")
    browser.draw("#images-drawn", (0, -80), (0, 20))
    browser.click("Take the drawing")
    browser.wait(lambda: browser.all("#images-given img"), "the drawing")
    browser.click("Predict the digit")
    assert "1" in browser.predicted("images")


def test_a_text_is_predicted_and_measured_and_an_empty_one_is_refused(browser):
    browser.click("A text", role="tab")
    browser.click("Predict the group")
    browser.refused("The text must have letters from a to z, got ''.")
    field = browser.wait(lambda: browser.all("#texts-given textarea"), "a place for a text")[0]
    field.send_keys("The goalie made 30 saves, and the team won in overtime!")
    browser.click("Predict the group")
    assert set(browser.predicted("texts")) <= {"rec.sport.hockey", "sci.med"}
    assert asked_hosts(browser.driver) == {"127.0.0.1"}
