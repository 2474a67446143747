"""A page of the report taken apart, and what must hold of every one of them."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

__all__ = ["Page"]

VOID = frozenset(("meta", "link", "br", "wbr", "hr", "img", "input"))

KNOWN_ATTRIBUTES = frozenset(
    [
        "aria-current",
        "aria-hidden",
        "aria-label",
        "aria-labelledby",
        "charset",
        "class",
        "cx",
        "cy",
        "colspan",
        "content",
        "datetime",
        "fill",
        "height",
        "href",
        "http-equiv",
        "id",
        "lang",
        "name",
        "open",
        "patterntransform",
        "patternunits",
        "points",
        "r",
        "rel",
        "role",
        "scope",
        "tabindex",
        "text-anchor",
        "viewbox",
        "width",
        "x",
        "x1",
        "x2",
        "y",
        "y1",
        "y2",
    ]
)


class Page(HTMLParser):
    """A page as its elements: (tag, attributes, path of tags above), text by path, and whether each tag was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.text: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text.append((tuple(self._open), data))

    def words(self, *inside: str) -> str:
        """All text below elements of these tags; without any, the whole body's."""
        shown = (data for path, data in self.text if "style" not in path and (not inside or set(inside) & set(path)))
        return " ".join(" ".join(shown).split())

    @property
    def ids(self) -> list[str]:
        return [a["id"] or "" for _, a, _ in self.elements if "id" in a]

    @property
    def links(self) -> list[str]:
        """Where its links lead, but for addresses on the web."""
        found = [a.get("href") or "" for tag, a, _ in self.elements if tag == "a"]
        return [link for link in found if not link.startswith(("http://", "https://"))]

    def check_alone(self) -> None:
        """No script, and nothing that a browser would fetch."""
        assert not [tag for tag, _, _ in self.elements if tag in ("script", "img", "iframe", "object", "embed", "base")]
        assert not [a for tag, a, _ in self.elements if "src" in a or (tag == "link" and a.get("href") != "data:,")]
        assert not [a for _, a, _ in self.elements if any(name.startswith("on") or name == "style" for name in a)]

    def check_harmless(self) -> None:
        """No element or attribute of anybody else's, no link that does something, no control characters."""
        self.check_alone()
        assert all(set(a) <= KNOWN_ATTRIBUTES for _, a, _ in self.elements), "an attribute was broken out of"
        for link in self.links:
            assert not re.match(r"[a-z]+:|//|/", link, re.IGNORECASE), link
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", self.source)

    def check_structure(self) -> None:
        """Headings without a skipped level, landmarks with names of their own, captions, scopes, labelled pictures,
        scroll areas that the keyboard reaches, and links inside the page that lead somewhere."""
        tags = Counter(tag for tag, _, _ in self.elements)
        levels = [int(tag[1]) for tag, _, _ in self.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert (tags["main"], tags["header"], tags["footer"]) == (1, 1, 1)
        assert tags["table"] == tags["caption"]
        assert all("scope" in a for tag, a, _ in self.elements if tag == "th")
        assert len(self.ids) == len(set(self.ids))
        for _, a, _ in self.elements:
            assert set((a.get("aria-labelledby") or "").split()) <= set(self.ids), a
            assert a.get("role") != "img" or a.get("aria-label") or a.get("aria-labelledby"), a
        areas = [a for _, a, _ in self.elements if a.get("class") == "scroll"]
        assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in areas)
        names = Counter(a["aria-label"] for a in areas)
        assert not [name for name, number in names.items() if number > 1]
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)
