"""What `gameday check` says of a gameday.toml that is wrong: the key, its value and the remedy, all mistakes at once,
with exit code 2, in words that no width of a terminal cuts."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gameday import cli
from gameday.cli.shared import Plain
from gameday.stack.reading import FILE_MAX_BYTES, TOLD_MAX
from tests.fakes import TOY

RIGHT = (
    TOY.replace('driver = "tape"', 'driver = "tape"\nurl = "http://127.0.0.1:1"\nrecords = "m:f"').replace(
        'driver = "clickhouse"', 'driver = "clickhouse"\nurl = "http://127.0.0.1:1"\nkind = "once"\ntable = "t"'
    )
    + """
[hosts.local]
socket = "/none"
[components.web]
opt_in = true
probes.health = { driver = "http", url = "http://127.0.0.1:1/" }
"""
)

CURSOR = '[cursors.c]\ndriver = "kafka"\nbrokers = "127.0.0.1:1"\ngroup = "g"\ntopics = ["t"]\n'
PROBE = 'url = "http://127.0.0.1:1/" }'
URL = 'url = "http://127.0.0.1:1"\nkind'

CHANGED: Mapping[str, tuple[str, str, str]] = {
    "an unknown key": ("opt_in", "optin", r"components\.web\.optin is no key .* \(got True\)\. Did you mean opt_in"),
    "a text for yes or no": ("true", '"sure"', r"components\.web\.opt_in: .*boolean.*\(got 'sure'\)\. Remedy"),
    "a list for a text": ('name = "toy"', 'name = ["toy"]', r"name: .*valid string \(got a list\)\. Remedy"),
    "a table for a text": ('"tape"', '{ name = "tape" }', r"hops\.one\.driver: .*\(got a table of name\)\. Remedy"),
    "a hop that is not there": ('"one", "two"]', '"one", "three"]', r"hops names 'three', .*Known: one, two"),
    "a single hop": ('["one", "two"]', '["one"]', r"streams\.numbers\.hops: .*at least 2 items.*Remedy"),
    "a wrong end": (
        'visible = "two"',
        'visible = "tow"',
        r"streams\.numbers\.visible is 'tow'\. Remedy: one of one, two",
    ),
    "a duration of text": (PROBE, PROBE.replace("}", ', timeout_s = "5s" }'), r"timeout_s: .*number.*'5s'\)\. Remedy"),
    "a negative rate": (
        PROBE,
        PROBE.replace("}", ", rate_hz = -1 }"),
        r"rate_hz: .*greater than 0 \(got -1\)\. Remedy",
    ),
    "a rate that is no number": (PROBE, PROBE.replace("}", ", rate_hz = nan }"), r"rate_hz: .*\(got nan\)\. Remedy"),
    "an address without a scheme": (
        PROBE,
        'url = "127.0.0.1:1" }',
        r"probes\.health\.url: must be an address such as http://host:port.*\(got '127\.0\.0\.1:1'\)",
    ),
    "a port above all": (PROBE, 'url = "http://a:99999" }', r"url is 'http://a:99999'.*above 65535\. Remedy"),
    "a password with #": (URL, URL.replace("//", "//u:p#w@"), r"hops\.two\.url is 'http://\*\*\*@.*# is %23"),
    "another database": ("postgresql://", "mysql://", r"history: must be an address such as postgresql://.*Remedy"),
    "a key that is there twice": ("opt_in = true", "opt_in = true\nopt_in = true", r"not TOML: .*line 26.*Remedy"),
    "no probe": (
        f'probes.health = {{ driver = "http", {PROBE}',
        "",
        r"components\.web\.probes is missing\. Remedy: set it",
    ),
    "a driver that is not there": ('"tape"', '"tap"', r"hops\.one: there is no 'tap' .*Did you mean tape"),
    "a probe's driver": (
        'driver = "http"',
        'driver = "htpp"',
        r"probes\.health: there is no 'htpp' .*Did you mean http",
    ),
    "a driver of a package": (
        '"tape"',
        '"shop.drivers:Table"',
        r"hops\.one: 'shop\.drivers:Table'.*Remedy: 'module:name'",
    ),
    "a name with markup": ('"toy"', '"[red]toy[/red]"', r"name: .*\(got '\[red\]toy\[/red\]'\)\. Remedy"),
    "a driver with markup": ('"tape"', '"[bold]x[/]"', r"there is no '\[bold\]x\[/\]' .*Known: .*tape"),
    "a host that is not there": (
        "opt_in",
        'host = "moon"\nopt_in',
        r"web\.host is 'moon', .*no \[hosts\.moon\].*Known: local",
    ),
    "no such type": (
        'hops = ["one"',
        'fields = { id = "integer" }\nhops = ["one"',
        r"fields\.id: 'integer' is no type\. Remedy",
    ),
    "no key": ('key = ["id"]\n', "", r"streams\.numbers\.key is missing\. Remedy"),
    "a path to nobody": ('path = ["web"]', 'path = ["wbe"]', r"path has 'wbe', .*no \[components\.wbe\]\. Known: web"),
    "a name without a form": ("nobody@", "nobody:${pass word}@", r"history has '\$\{pass word\}'.*Remedy: \$\{NAME\}"),
    "a name that is endless": ('"toy"', f'"{"x" * 200}"', r"name: .*at most 100 characters.*Remedy"),
}
"""What is wrong -> a text of the right file, what stands there instead, and what is said."""

ADDED: Mapping[str, tuple[str, str]] = {
    "a table that nobody knows": ("[component.web]\nopt_in = true\n", r"component is no key .*Did you mean components"),
    "a table that is there twice": (
        "[components.web]\nopt_in = true\n",
        r"not TOML: .*'web'\) twice .*line 27.*Remedy",
    ),
    "a table that is not closed": ("[components.x\n", r"is not TOML: .*line 27.*Remedy"),
    "a cursor of nobody": (f'{CURSOR}component = "wbe"\n', r"cursors\.c\.component is 'wbe', .*Known: web"),
    "a cursor without a driver": ('[cursors.c]\ngroup = "g"\n', r"cursors\.c\.driver is missing\. Remedy"),
    "a cursor's wrong keys": (
        '[cursors.c]\ndriver = "kafka"\ngroups = "g"\n',
        r"c: unknown groups.*takes brokers, group",
    ),
    "the old table of a stream": ("[stream]\nhops = []\n", r"\[stream\] is gone\. Remedy: \[streams\.NAME\]"),
    "roles of their own": ("[roles.x]\nmembers = []\n", r"roles is no table\. Remedy: \[components\.NAME\]"),
    "a member that is not there": (
        "[components.all]\nmembers = ['web', 'me']\n",
        r"all\.members names 'me', .*Known: web",
    ),
    "a link to nobody": ("[links.l]\nhost = 'local'\nbetween = ['web', 'x']\n", r"l\.between names 'x', .*Known: web"),
    "an illegal character": ('x = "\x01"\n', r"is not TOML: Illegal character '\\x01' .*line 27.*Remedy"),
    "a deep table": (
        f"x = {'{a=' * 50}1{'}' * 50}\n",
        r"components\.web\.x is no key .*\(got a table of a\)\. Known: host",
    ),
    "a bottomless list": (
        f"x = {'[' * 5000}{']' * 5000}\n",
        r"lists in each other that are too deep\. Remedy: flatten",
    ),
    "a file without an end": ("# x\n" * FILE_MAX_BYTES, r"is larger than 1,048,576 bytes\. Remedy"),
}

WHOLE: Mapping[str, tuple[bytes, str]] = {
    "nothing": (b"", r"has 7 mistakes:\n- name is missing\. Remedy.*\n- history is missing"),
    "YAML": (b"name: toy\nhops:\n - one\n", r"is not TOML: .*line 1, column 5.*Remedy"),
    "JSON": (b'{"name": "toy"}', r"is not TOML: .*line 1, column 1.*Remedy"),
    "no UTF-8": (RIGHT.encode().replace(b"toy", b"t\xffy"), r"can't be read: .*0xff in position 10.*Remedy"),
    "UTF-16": (RIGHT.encode("utf-16"), r"can't be read: .*Remedy: check that it is a text file"),
    "a NUL": (RIGHT.encode() + b"\0", r"is not TOML: .*line 27.*Remedy"),
}

BAD: Mapping[str, tuple[bytes, str]] = {
    **{name: (RIGHT.replace(old, new, 1).encode(), said) for name, (old, new, said) in CHANGED.items()},
    **{name: ((RIGHT + more).encode(), said) for name, (more, said) in ADDED.items()},
    **WHOLE,
}


def checked(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of `gameday check`, and what it says on stderr."""
    monkeypatch.setattr("sys.argv", ["gameday", "--config", str(path), "--state", str(path.parent / "state"), "check"])
    monkeypatch.setenv("GAMEDAY_CONFIG", "")  # what the command sets in its own environment ends with the test
    monkeypatch.setenv("GAMEDAY_STATE", "")
    monkeypatch.setattr("gc.freeze", lambda: None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    output = capsys.readouterr()
    assert output.out == ""
    return left.value.code, output.err


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_with_its_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, no secret, and at 80 and 200 columns every word is whole."""
    data, expected = BAD[name]
    assert data != RIGHT.encode()
    path = tmp_path / "gameday.toml"
    path.write_bytes(data)
    code, said = checked(path, monkeypatch, capsys)
    assert code == 2
    assert said.startswith(f"gameday: {path}")
    assert re.search(expected, said), said
    assert "Traceback" not in said
    assert "p#w" not in said
    for width in (80, 200):
        shown = io.StringIO()
        Plain(file=shown, width=width, highlight=False, markup=False, emoji=False).print(said)
        short = [word for word in said.split() if len(word) <= width]
        assert [word for word in shown.getvalue().split() if word in short] == short


def test_the_right_one_is_right(tmp_path: Path) -> None:
    """Else the list would prove nothing; a byte order mark, as some editors write it, is no mistake."""
    from gameday.stack.reading import load
    from gameday.state import State

    path = tmp_path / "gameday.toml"
    for data in (RIGHT.encode(), b"\xef\xbb\xbf" + RIGHT.encode(), RIGHT.replace("\n", "\r\n").encode()):
        path.write_bytes(data)
        assert load(path, State(tmp_path)).name == "toy"


def test_a_folder_and_a_file_that_is_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what would be right."""
    code, said = checked(tmp_path, monkeypatch, capsys)
    assert (code, said) == (2, f"gameday: {tmp_path} is a folder. Remedy: --config {tmp_path}/gameday.toml\n")
    code, said = checked(tmp_path / "none.toml", monkeypatch, capsys)
    assert code == 2
    assert f"no configuration at {tmp_path}/none.toml. Remedy: --config FILE" in said


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to look at. Root reads every file, so what the system says stands here."""

    path = tmp_path / "gameday.toml"
    path.write_text(RIGHT)
    given = Path.open

    def refused(self: Path, *how: Any, **more: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return given(self, *how, **more)

    monkeypatch.setattr(Path, "open", refused)
    code, said = checked(path, monkeypatch, capsys)
    assert code == 2
    assert "Permission denied" in said
    assert "Remedy: check that it is a text file with its owner's read right" in said


def test_all_mistakes_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each; an unknown key hides nothing of what names refer to."""
    path = tmp_path / "gameday.toml"
    text = RIGHT.replace("opt_in", "optin").replace('path = ["web"]', 'path = ["wbe"]').replace('= "two"', '= "tow"')
    path.write_text(text)
    code, said = checked(path, monkeypatch, capsys)
    first, *lines = said.splitlines()
    assert (code, first) == (2, f"gameday: {path} has 3 mistakes:")
    assert [line.partition(" is ")[0].partition(" has ")[0] for line in lines] == [
        "- components.web.optin",
        "- streams.numbers.path",
        "- streams.numbers.visible",
    ]


def test_of_very_many_mistakes_some_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how many more there are: a terminal shows no thousand."""
    path = tmp_path / "gameday.toml"
    path.write_text(RIGHT + "".join(f"[components.c{n}]\noptin = 1\n" for n in range(100)))
    code, said = checked(path, monkeypatch, capsys)
    first, *lines = said.splitlines()
    assert (code, first) == (2, f"gameday: {path} has 200 mistakes:")
    assert len(lines) == TOLD_MAX + 1
    assert lines[-1] == "- and 160 more"


def test_a_terminal_cuts_no_word(tmp_path: Path) -> None:
    """Of a real one of 80 columns: lines end between words."""
    path = tmp_path / "gameday.toml"
    path.write_text(RIGHT.replace("opt_in = true", 'opt_in = "a text that is neither yes nor no"'))
    command = [str(Path(sys.executable).with_name("gameday")), "--config", path.name, "--state", "state", "check"]
    near, far = pty.openpty()
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=far, env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    ) as process:
        os.close(far)
        said = b""
        while piece := _read(near):
            said += piece
    os.close(near)
    assert process.returncode == 2
    lines = said.decode().splitlines()
    assert "a text that is neither yes nor no" in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80


def _read(terminal: int) -> bytes:
    """What there is; nothing once nobody has the other end."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
