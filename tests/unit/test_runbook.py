"""The format of runbooks, and the ones in this repository: what every one of them must have."""

from __future__ import annotations

import inspect
import re
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.scaffold import RUNBOOK
from flows import catalogue, parameters
from gameday.errors import ConfigError
from gameday.model import Verdict
from gameday.plan import Heal
from gameday.runbooks.blocks import RECOVERY, SECTIONS, VERIFY, Block, parse, read
from gameday.runbooks.evidence import filled
from gameday.stack.live import Stack
from gameday.stack.reading import load
from gameday.state import ROOT, RUNBOOKS, State
from tasks.definition import definition
from tasks.night import Night
from tasks.notify import notify
from tasks.runbook import moment
from tasks.telling import places
from tests.unit import evidence

PAGE = """# Broker down

Prose with `code`.

```sh
rm -rf / # for people alone: not ours
```

## Diagnosis

### The broker refuses

1. Ask it:

   ```sh gameday how=stop,hang
   ask "$BROKER" |
     grep x
   ```

   It says:

   ```expect
   ^no\\b
   since \\d+
   ```

## Verify

### It answers

~~~sh gameday
ask
~~~
"""


def test_blocks_have_their_section_title_text_and_expectation() -> None:
    """In a list, behind prose, with either kind of fence; fences that aren't ours are nobody's business."""
    asked, answers = parse(PAGE, "x.md")
    assert (asked.kind, asked.title, asked.text) == ("diagnosis", "The broker refuses", 'ask "$BROKER" |\n  grep x')
    assert [p.pattern for p in asked.expects] == ["^no\\b", "since \\d+"]
    assert (asked.line, asked.variables) == (15, frozenset({"BROKER"}))
    assert (answers.kind, answers.text, answers.expects) == (VERIFY, "ask", ())


BLOCK = "```sh gameday\nrm -rf /\n```"


@pytest.mark.parametrize(
    "example",
    [
        f"<!--\n{BLOCK}\n-->",
        f"<!-- not any more:\n\n{BLOCK}\n\n-->",
        f"Write it so:\n\n    {BLOCK.replace(chr(10), chr(10) + '    ')}",
        f"- A block is\n\n      {BLOCK.replace(chr(10), chr(10) + '      ')}",
        f"````markdown\n{BLOCK}\n````",
        f"~~~\n{BLOCK}\n~~~",
        f"> {BLOCK.replace(chr(10), chr(10) + '> ')}",
        f"<pre>\n{BLOCK}\n</pre>",
    ],
    ids=["comment", "long comment", "indented", "indented in a list", "fence", "tildes", "quotation", "html"],
)
def test_an_example_is_not_carried_out(example: str) -> None:
    """What Markdown doesn't show as a block of its own is text; a block beside it is still one."""
    real = "### It answers\n\n```sh gameday\nask\n```"
    found = parse(f"## Verify\n\n### As an example\n\n{example}\n\n{real}\n", "x.md")
    assert [(b.title, b.text) for b in found] == [("It answers", "ask")]


def test_a_heading_in_an_example_is_none() -> None:
    """The block below it belongs to the page's own."""
    page = "## Verify\n### T\n<!--\n## Recovery\n-->\n> ### U\n\n```sh gameday\nask\n```\n"
    (block,) = parse(page, "x.md")
    assert (block.kind, block.title, block.line) == (VERIFY, "T", 8)


def test_a_block_is_meant_for_the_parameters_that_it_names() -> None:
    """All values of a parameter that it doesn't name."""
    asked, answers = parse(PAGE, "x.md")
    assert asked.meant_for({"how": "stop", "other": 1})
    assert asked.meant_for({"how": "hang"})
    assert not asked.meant_for({"how": "slow"})
    assert not asked.meant_for({})
    assert answers.meant_for({})


@pytest.mark.parametrize(
    ("output", "status", "mismatch"),
    [
        ("x\nno process\nsince 5\n", 7, ""),
        ("no\n", 0, "expected since \\d+"),
        ("nothing", 0, "expected ^no\\b and since \\d+"),
        ("", None, "expected ^no\\b and since \\d+"),
    ],
)
def test_each_expected_line_is_somewhere_in_the_output(output: str, status: int | None, mismatch: str) -> None:
    """In any order, whatever the command ended with."""
    assert parse(PAGE, "x.md")[0].mismatch(output, status) == mismatch


@pytest.mark.parametrize(("status", "mismatch"), [(0, ""), (3, "ended with 3"), (None, "ended with None")])
def test_without_expectation_the_exit_status_tells(status: int | None, mismatch: str) -> None:
    """One that was ended is no success."""
    assert Block("verify", "It answers", "true").mismatch("whatever", status) == mismatch


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("## Diagnosis\n### T\n```bash gameday\nx\n```", r"x.md:3: gameday carries out sh, not 'bash'"),
        ("## Symptom\n### T\n```sh gameday\nx\n```", r"x.md:3: a block under 'Symptom' is for nothing"),
        ("## Verify\n```sh gameday\nx\n```", r"x.md:2: this block has no title"),
        ("### T\n## Verify\n```sh gameday\nx\n```", r"x.md:3: this block has no title"),
        ("## Verify\n### T\n```sh gameday\n\n```", r"x.md:3: this block is empty"),
        ("## Verify\n### T\n```sh gameday stop\nx\n```", r"'stop' is not PARAMETER=VALUE"),
        ("## Verify\n### T\n```sh gameday how=\nx\n```", r"'how=' is not PARAMETER=VALUE"),
        ("## Verify\n### T\n```sh gameday\nx", r"x.md:3: this fence has no end"),
        ("## Verify\n### T\n```expect\nx\n```", r"x.md:3: what is expected follows no block of ours"),
        ("## Verify\n### T\n```sh\nx\n```\n```expect\nx\n```", r"x.md:6: what is expected follows no block of ours"),
        ("## Verify\n### T\n```sh gameday\nx\n```\n### U\n```expect\nx\n```", r"x.md:7: what is expected follows no"),
        ("## Verify\n### T\n```sh gameday\nx\n```\n```expect\n\n```", r"x.md:6: nothing is expected"),
        ("## Verify\n### T\n```sh gameday\nx\n```\n```expect\n(\n```", r"x.md:6: '\(' is no regular expression"),
    ],
)
def test_a_mistake_is_told_with_its_line(page: str, error: str) -> None:
    """Before anything is carried out: a block that is silently not seen would never go stale."""
    with pytest.raises(ConfigError, match=error):
        parse(page, "x.md")


@given(st.text(alphabet="#`~ \nsh gameday=expect123(\r\t", max_size=200))
def test_any_text_is_blocks_or_a_clear_error(text: str) -> None:
    """Never another exception."""
    with suppress(ConfigError):
        parse(text, "x.md")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigError, match=r"none.md can't be read"):
        read(tmp_path / "none.md")


# ---- the runbooks of this repository -----------------------------------------------------------------------

TESTS = {
    f"{path.parent.name}/{name}": test
    for path in sorted(ROOT.glob("compose/*/gameday.toml"))
    if (path.parent / "processes.py").exists()
    for name, test in catalogue(path).items()
}
"""Each platform's, as PLATFORM/NAME."""


def text(name: str) -> str:
    return page(name).read_text()


def page(name: str) -> Path:
    """A test's runbook, in the folder that its platform's gameday.toml names."""
    platform, _, test = name.partition("/")
    config = ROOT / "compose" / platform / "gameday.toml"
    folder = tomllib.loads(config.read_text())["runbook"].get("folder")
    return (config.parent / folder if folder else ROOT / RUNBOOKS) / f"{test}.md"


def test_an_engineer_is_sent_to_the_folder_that_is_configured(tmp_path: Path) -> None:
    """In messages, in the line that ends a run, on the pages of a night and of a test: where the blocks come from."""
    stack, runbook = stack_with_runbooks(tmp_path), f"{tmp_path}/ours/broker_restart.md"
    assert places(stack, "n", "broker_restart", flow=False).runbook == runbook
    here = Night("20260101T020000-n", results=[replace(evidence.broker_restart()[0], verdict=Verdict.FAIL)])
    here.write(stack)
    assert runbook in stack.state.report(here.id).read_text()
    assert runbook in stack.state.history("broker_restart").read_text()
    said: list[str] = []
    run: Any = SimpleNamespace(name="broker_restart", stack=stack, night="n", trusted=False, say=said.append)
    notify.fn(run, here.results[0])
    assert said[0].endswith(f"Runbook: {runbook}")


def test_the_repository_s_own_folder_is_named_from_the_checkout_on(tmp_path: Path) -> None:
    """As it is without a folder under [runbook]."""
    assert places(stack_with_runbooks(tmp_path, folder=None), "n", "x", flow=False).runbook == f"{RUNBOOKS}/x.md"


def stack_with_runbooks(tmp_path: Path, folder: str | None = "ours") -> Stack:
    text = (ROOT / "compose" / "trades" / "gameday.toml").read_text()
    path, state = tmp_path / "gameday.toml", State(tmp_path)
    path.write_text(text.replace("[runbook.env]", f'[runbook]\nfolder = "{folder}"\n[runbook.env]') if folder else text)
    names = set(re.findall(r"\$\{([A-Z0-9_]+)\}", text)) - {"PAGER_TOKEN"}
    state.env.write_text("".join(f"{name}=1\n" for name in names))
    loaded = load(path, state)
    return Stack(loaded.model_copy(update={"channels": {}}), state, path)


@pytest.mark.parametrize("name", list(TESTS))
def test_a_runbook_has_all_that_the_person_on_call_looks_for(name: str) -> None:
    """Its sections in their order, and one place for the evidence."""
    found = re.findall(r"^## (.*)$", text(name), flags=re.MULTILINE)
    assert found == [*SECTIONS, "Evidence"]
    assert filled(text(name).encode(), "new", name) != text(name).encode()


@pytest.mark.parametrize("name", list(TESTS))
def test_every_variant_of_the_night_is_diagnosed_and_verified(name: str) -> None:
    """Each parameter set has blocks of both kinds; and no block is meant for none of them."""
    blocks = read(page(name))
    function = definition(TESTS[name])
    used: set[int] = set()
    for params in function().nightly:
        here = [b for b in blocks if b.meant_for(bound(function, dict(params)))]
        assert {"diagnosis", "verify"} <= {b.kind for b in here}, params
        used |= {b.line for b in here}
    assert [b.title for b in blocks if b.line not in used] == []


@pytest.mark.parametrize("name", list(TESTS))
def test_blocks_name_parameters_that_the_test_has(name: str) -> None:
    """With values that it takes; and what else they read is in gameday.toml."""
    blocks = read(page(name))
    for block in blocks:
        for parameter, values in (block.only or {}).items():
            for value in values:
                parameters(TESTS[name], {parameter: value})
    params = {p.upper() for p in inspect.signature(definition(TESTS[name])).parameters}
    read_here = set().union(*(b.variables for b in blocks)) - params
    assert read_here <= given_variables(name.partition("/")[0])


@pytest.mark.parametrize("name", list(TESTS))
def test_recovery_is_carried_out_only_where_a_plan_ends_what_it_holds(name: str) -> None:
    """What comes back by itself is not helped: a block there would never be tried."""
    function = definition(TESTS[name])
    for params in function().nightly:
        plan = function(**params).plan
        at = moment(plan)
        for block in read(page(name)):
            if block.kind == RECOVERY and block.meant_for(bound(function, dict(params))):
                assert at < len(plan)
                assert isinstance(plan[at], Heal)


def test_what_is_stopped_is_started_by_its_runbook() -> None:
    """A component that was stopped stays so until somebody starts it: the tests that stop one are mended by hand."""
    for name in ("trades/feed_handler_crash", "trades/object_store_outage", "cdc/consumer_lag"):
        blocks = read(page(name))
        assert any(b.kind == RECOVERY and b.meant_for({"how": "stop"}) for b in blocks)


def test_a_new_runbook_is_one() -> None:
    """What `gameday new` writes can be carried out, and takes evidence."""
    page = RUNBOOK.format(words="Disk full")
    assert [b.kind for b in parse(page, "x.md")] == ["diagnosis", "verify"]
    assert [*SECTIONS, "Evidence"] == re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert filled(page.encode(), "evidence", "x.md") != page.encode()


def bound(function: Any, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with their defaults, as a run has them."""
    given = inspect.signature(function).bind(**params)
    given.apply_defaults()
    return dict(given.arguments)


def given_variables(platform: str) -> set[str]:
    """The names under its [runbook.env]."""
    path = ROOT / "compose" / platform / "gameday.toml"
    names = set(re.findall(r"\$\{([A-Z0-9_]+)\}", path.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setenv(name, "1")
        config = load(path).runbook
    assert config is not None
    return set(config.env)
