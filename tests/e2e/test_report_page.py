"""The night's page in a real browser, where there is one: at desktop and phone width, in light and dark.

Speaks to Chromium over its debugging port; skipped where Chromium or the client library is missing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest

from gameday.polling import until
from gameday.reports import html
from tests.unit import evidence

client = pytest.importorskip("websockets.sync.client", reason="the package websockets is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

START_WITHIN_S = 60.0
ANSWER_WITHIN_S = 60.0
EVENTS_MAX = 10_000

SCROLL = """JSON.stringify([document.documentElement.scrollWidth, innerWidth,
  [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg')
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))])"""
LABELS = """JSON.stringify([...document.querySelectorAll('svg.timeline')].filter(s => s.getBoundingClientRect().width)
  .map(s => [...s.querySelectorAll('text')].map(t => { const b = t.getBoundingClientRect();
    const s = t.ownerSVGElement.getBoundingClientRect();
    return {text: t.textContent, left: b.left, right: b.right, top: b.top, bottom: b.bottom,
      from: s.left, to: s.right}; })))"""


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
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

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
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = [*evidence.night(), (evidence.aborted(), None)]
    return html.render(evidence.NIGHT, runs, tmp_path_factory.mktemp("night") / "report.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700, 360])
def test_the_page_fits(browser: Browser, report: Path, width: int, scheme: str) -> None:
    """The page never scrolls sideways; the text of a picture stays inside it, is large enough and covers no other."""
    browser.open(report, width, scheme)
    scrolled, inner, outside = json.loads(browser.value(SCROLL))
    assert scrolled <= inner
    assert outside == []
    pictures = json.loads(browser.value(LABELS))
    assert len(pictures) == 3
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


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, report: Path) -> None:
    """No request but the page itself, no error in the console, nothing refused by its own policy."""
    browser.events.clear()
    browser.open(report, 1280, "light")
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    complaints = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert [e for e in browser.events if e["method"] in complaints] == []


def test_the_colours_follow_the_scheme(browser: Browser, report: Path) -> None:
    """Light paper by day, dark by night; print is always light."""
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(report, 1280, "light")
    light = browser.value(paper)
    browser.open(report, 1280, "dark")
    dark = browser.value(paper)
    assert sum(map(int, light[4:-1].split(","))) > 700
    assert sum(map(int, dark[4:-1].split(","))) < 120
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.value(paper) == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="screen")
