"""A runbook's Markdown -> the blocks that gameday carries out. The format is docs/runbooks.md's to tell.

Pure. Carrying out is tasks/runbook.py's, the evidence that a night writes back reports/runbook.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gameday.errors import ConfigError
from gameday.model import Json

__all__ = ["CARRY_OUT_S", "DIAGNOSIS", "KINDS", "KIND_S", "RECOVERY", "SECTIONS", "VERIFY", "Block", "parse", "read"]

DIAGNOSIS, RECOVERY, VERIFY = KINDS = ("diagnosis", "recovery", "verify")
"""What a block is for: the section that it stands in, in lower case."""

SECTIONS = ("Symptom", "Alert", "Diagnosis", "Recovery", "Verify", "Escalate")
"""What the person on call looks for, in this order."""

KIND_S = 30.0
"""What all blocks of one kind may take together: no heal waits longer for them."""

CARRY_OUT_S = len(KINDS) * KIND_S
"""What a runbook adds to a run at most."""

OURS, EXPECT = "gameday", "expect"
SHELL = "sh"

VARIABLE = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)")


@dataclass(frozen=True)
class Block:
    """One block of shell. expects: what its output must show, each somewhere; none: it must end with 0.

    only: parameter of the test -> the values for which the block is meant; all, for one that isn't named.
    """

    kind: str
    title: str
    text: str
    expects: tuple[re.Pattern[str], ...] = ()
    only: Mapping[str, tuple[str, ...]] | None = None
    line: int = 0

    def meant_for(self, params: Mapping[str, Json]) -> bool:
        """Whether it is carried out in a run with these parameters."""
        return all(str(params.get(name)) in values for name, values in (self.only or {}).items())

    @property
    def variables(self) -> frozenset[str]:
        """The names in capitals that it reads; its own variables are in small letters."""
        return frozenset(VARIABLE.findall(self.text))

    def mismatch(self, output: str, status: int | None) -> str:
        """What came out otherwise than expected; "" when all is as it says. status None: it was ended."""
        missing = [p.pattern for p in self.expects if not p.search(output)]
        if missing:
            return f"expected {' and '.join(missing)}"
        return "" if self.expects or status == 0 else f"ended with {status}"


@dataclass(frozen=True)
class _Fence:
    """A fenced block: where it begins, what its first line says, and what is inside."""

    line: int
    info: str
    text: str


def read(path: Path) -> tuple[Block, ...]:
    """The blocks of a runbook's file; a ConfigError names the file, the line and the remedy."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} can't be read: {e}. Remedy: a text file in UTF-8 with its owner's read right") from e
    return parse(text, path.name)


def parse(text: str, name: str) -> tuple[Block, ...]:
    """The blocks in their order. name: the file's, for errors. Fences that aren't ours are left alone."""
    found: list[Block] = []
    section = title = ""
    asked: Block | None = None  # the block whose expected output may come next
    for part in _parts(text, name):
        if isinstance(part, tuple):
            level, heading = part
            section, title = (heading, "") if level <= 2 else (section, heading if level == 3 else title)
            asked = None
            continue
        here = f"{name}:{part.line}"
        language, *words = part.info.split() or [""]
        if language == EXPECT:
            if asked is None:
                raise ConfigError(f"{here}: what is expected follows no block of ours. Remedy: ```sh gameday before it")
            found[-1] = Block(asked.kind, asked.title, asked.text, _patterns(part, here), asked.only, asked.line)
            asked = None
        elif OURS in words:
            asked = _block(part, language, words, section, title, here)
            found.append(asked)
        else:
            asked = None
    return tuple(found)


def _parts(text: str, name: str) -> Iterator[tuple[int, str] | _Fence]:
    """Headings (level, words) and fenced blocks, in their order, as Markdown has them: also in a list, whose items are
    steps. What stands in a comment, in indented code, in another fence or in a quotation is text: an example."""
    from markdown_it import MarkdownIt  # only here: who asks for a run's bounds reads no runbook

    level = quoted = 0
    for token in MarkdownIt("commonmark").parse(text if text.endswith("\n") else f"{text}\n"):
        quoted += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if token.type == "heading_open":
            level = int(token.tag[1]) if token.level == 0 else 0
        elif token.type == "inline" and level:
            yield level, token.content
            level = 0
        elif token.type == "fence" and not quoted:
            assert token.map is not None
            began, end = token.map
            if end - began != token.content.count("\n") + 2:  # its two fences
                raise ConfigError(
                    f"{name}:{began + 1}: this fence has no end. Remedy: {token.markup} on a line of its own"
                )
            yield _Fence(began + 1, token.info.strip(), token.content.removesuffix("\n"))


def _block(fence: _Fence, language: str, words: list[str], section: str, title: str, here: str) -> Block:
    if language != SHELL:
        raise ConfigError(f"{here}: gameday carries out {SHELL}, not {language!r}. Remedy: ```{SHELL} gameday")
    if section.lower() not in KINDS:
        raise ConfigError(
            f"{here}: a block under {section!r} is for nothing. Remedy: put it under ## Diagnosis, Recovery or Verify"
        )
    if not title:
        raise ConfigError(f"{here}: this block has no title. Remedy: a ### heading above it that says what it shows")
    if not fence.text.strip():
        raise ConfigError(f"{here}: this block is empty. Remedy: write its command, or take it away")
    only: dict[str, tuple[str, ...]] = {}
    for word in words:
        if word != OURS:
            parameter, equals, values = word.partition("=")
            if not equals or not parameter or not values:
                raise ConfigError(f"{here}: {word!r} is not PARAMETER=VALUE,VALUE. Remedy: how=stop, or nothing")
            only[parameter] = tuple(values.split(","))
    return Block(section.lower(), title, fence.text, (), only, fence.line)


def _patterns(fence: _Fence, here: str) -> tuple[re.Pattern[str], ...]:
    """A regular expression a line."""
    lines = [line.strip() for line in fence.text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"{here}: nothing is expected. Remedy: a line of the output, as a regular expression")
    try:
        return tuple(re.compile(line, re.MULTILINE) for line in lines)
    except re.error as e:
        raise ConfigError(f"{here}: {e.pattern!r} is no regular expression: {e}. Remedy: mend it") from e
