"""The report's pages in a real browser, where there is one: at desktop and phone width, in light and dark, in print.

Speaks to Chromium over its debugging port; skipped where Chromium or the client library is missing.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest

from gameday.system.polling import until
from tests.unit import evidence

client = pytest.importorskip("websockets.sync.client", reason="the package websockets is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

START_WITHIN_S = 60.0
ANSWER_WITHIN_S = 60.0
EVENTS_MAX = 10_000
NIGHTS = 20
PAGES = ("index", "night", "test")
PHONE = 375
PAPER = 718  # A4 with margins of 1 cm, in CSS pixels

SCROLL = """JSON.stringify([document.documentElement.scrollWidth, innerWidth,
  [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg')
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))])"""
LABELS = """JSON.stringify([...document.querySelectorAll('svg.timeline, figure svg.trend')]
  .filter(s => s.getBoundingClientRect().width > 40)
  .map(s => [...s.querySelectorAll('text:not(.unmeasured)')].map(t => { const b = t.getBoundingClientRect();
    const s = t.ownerSVGElement.getBoundingClientRect();
    return {text: t.textContent, left: b.left, right: b.right, top: b.top, bottom: b.bottom,
      from: s.left, to: s.right}; })))"""
AXE = """axe.run().then(found => JSON.stringify([found.passes.length, found.violations.map(v => [v.id, v.help,
  v.nodes.map(n => n.html.slice(0, 120))])]))"""
FOCUSED = """(e => { const r = e.getBoundingClientRect(); return JSON.stringify([e.tagName,
  e.textContent.trim().slice(0, 40), r.width > 0 && r.left >= 0 && r.top >= 0 && r.right <= innerWidth,
  getComputedStyle(e).outlineStyle]); })(document.activeElement)"""
RIGHT = """Math.max(...[...document.querySelectorAll('table, svg, pre')].map(e => e.getBoundingClientRect().right))"""


class Browser:
    """One page of a running Chromium."""

    def __init__(self, address: str) -> None:
        self._socket = client.connect(address, max_size=None)
        self._ids = count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        for _ in range(EVENTS_MAX):
            message: dict[str, Any] = json.loads(self._socket.recv(timeout=ANSWER_WITHIN_S))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)
        raise AssertionError(f"no answer to {method}")

    def open(self, page: Path, width: int, scheme: str) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        until(
            lambda: self.value("document.readyState") == "complete",
            within_s=START_WITHIN_S,
            every_s=0.05,
            what=str(page),
        )

    def value(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={"Tab": 9}[key])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("chromium")
    argv = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [*argv, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        told = profile / "DevToolsActivePort"
        until(lambda: told.exists() and told.read_text().count("\n"), within_s=START_WITHIN_S, what="Chromium's port")
        port, path = told.read_text().split("\n")[:2]
        with client.connect(f"ws://127.0.0.1:{port}{path}") as whole:
            whole.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            target = json.loads(whole.recv(timeout=ANSWER_WITHIN_S))["result"]["targetId"]
        page = Browser(f"ws://127.0.0.1:{port}/devtools/page/{target}")
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    state = evidence.nights(tmp_path_factory.mktemp("state"), NIGHTS)
    return {"index": state.index, "night": state.report(evidence.NIGHT), "test": state.history("broker_restart")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700, PHONE])
@pytest.mark.parametrize("page", PAGES)
def test_the_page_fits(browser: Browser, site: dict[str, Path], page: str, width: int, scheme: str) -> None:
    """The page never scrolls sideways; the text of a picture stays inside it, is large enough and covers no other."""
    browser.open(site[page], width, scheme)
    scrolled, inner, outside = json.loads(browser.value(SCROLL))
    assert scrolled <= inner
    assert outside == []
    pictures = json.loads(browser.value(LABELS))
    assert len(pictures) == {"index": 0, "night": 3, "test": 5}[page]
    for texts in pictures:
        for text in texts:
            assert text["left"] >= text["from"] - 1, text
            assert text["right"] <= text["to"] + 1, text
            assert text["bottom"] - text["top"] >= 9, f"too small to read: {text}"
        for one, other in combinations(texts, 2):
            beside = one["right"] <= other["left"] + 1 or other["right"] <= one["left"] + 1
            below = (
                one["bottom"] <= other["top"] + 4 or other["bottom"] <= one["top"] + 4
            )  # boxes are taller than letters
            assert beside or below, (one, other)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (PHONE, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(browser: Browser, site: dict[str, Path], page: str, width: int, scheme: str) -> None:
    """None of axe-core's rules is broken, its best practices included, also with everything unfolded."""
    browser.open(site[page], width, scheme)
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.value((files("axe_core_python") / "axe.min.js").read_text() + ";0")
    kept, broken = json.loads(browser.value(AXE))
    assert broken == []
    assert kept > 20, "it looked at something"


def test_axe_would_find_something(browser: Browser, site: dict[str, Path]) -> None:
    """The rules are at work: a picture without a name and a text without contrast are found."""
    browser.open(site["index"], 1280, "light")
    browser.value("document.querySelector('svg.strip').removeAttribute('aria-label')")
    browser.value("document.querySelectorAll('svg.strip title').forEach(t => t.remove())")
    browser.value("document.querySelector('.lead').style.color = '#ccc'")
    browser.value((files("axe_core_python") / "axe.min.js").read_text() + ";0")
    _, broken = json.loads(browser.value(AXE))
    assert {rule for rule, *_ in broken} == {"svg-img-alt", "color-contrast"}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, site: dict[str, Path], page: str) -> None:
    """No request but the page itself, no error in the console, nothing refused by its own policy."""
    browser.events.clear()
    browser.open(site[page], 1280, "light")
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [site[page].as_uri()]
    complaints = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert [e for e in browser.events if e["method"] in complaints] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_keyboard_reaches_everything(browser: Browser, site: dict[str, Path], page: str) -> None:
    """The first Tab shows the way past the head; each further one lands on something that can be seen, with a mark."""
    browser.open(site[page], 1280, "light")
    browser.press("Tab")
    assert json.loads(browser.value(FOCUSED))[:3] == ["A", "Skip to the content", True]
    for _ in range(12):
        browser.press("Tab")
        tag, text, seen, outline = json.loads(browser.value(FOCUSED))
        assert (seen, outline) == (True, "solid"), (tag, text)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_prints(browser: Browser, site: dict[str, Path], page: str) -> None:
    """On A4, in light colours whatever the screen has, nothing is cut off at the right; and it becomes a PDF."""
    browser.open(site[page], PAPER, "dark")
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=scheme)
    try:
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.value(RIGHT) <= PAPER + 1
        printed = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    finally:
        browser.call("Emulation.setEmulatedMedia", media="screen", features=scheme)
    assert printed.startswith(b"%PDF")


@pytest.mark.parametrize("page", PAGES)
def test_the_colours_follow_the_scheme(browser: Browser, site: dict[str, Path], page: str) -> None:
    """Light paper by day, dark by night."""
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(site[page], 1280, "light")
    light = browser.value(paper)
    browser.open(site[page], 1280, "dark")
    dark = browser.value(paper)
    assert sum(map(int, light[4:-1].split(","))) > 700
    assert sum(map(int, dark[4:-1].split(","))) < 120
