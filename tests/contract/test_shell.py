"""Commands of a runbook with a real shell: whatever one does, it is over in time, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gameday.errors import DriverError
from gameday.system import shell
from gameday.system.polling import until
from gameday.system.process import Process

ENV = {"PATH": os.environ["PATH"], "WORD": "secret"}
SOON_S = 5.0
"""A shell takes milliseconds; a busy machine more."""

KILLED = """
import os, sys
from pathlib import Path
from gameday.system import shell
shell.run("echo $$ > pid; sleep 1000", {"PATH": os.environ["PATH"]}, Path(sys.argv[1]), 1.0)
"""


def carry_out(text: str, tmp_path: Path, within_s: float = 20.0) -> shell.Ended:
    return shell.run(text, ENV, tmp_path, within_s)


def pid_in(file: Path) -> int:
    return until(lambda: int(file.read_text() or 0) if file.exists() else None, SOON_S, what="the pid")


def is_gone(pid: int) -> bool:
    return bool(until(lambda: Process.of(pid) is None, SOON_S, what=f"the end of process {pid}"))


def test_output_and_exit_status_come_back(tmp_path: Path) -> None:
    """Errors in their place among the rest."""
    ended = carry_out("echo one; echo two >&2; echo three; exit 7", tmp_path)
    assert (ended.output, ended.status, ended.why) == ("one\ntwo\nthree\n", 7, "")


def test_it_sees_its_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What gameday's own environment holds stays there; a variable that isn't set is an error, not an empty text."""
    monkeypatch.setenv("OTHER", "mine")
    assert carry_out('echo "$WORD"', tmp_path).output == "secret\n"
    ended = carry_out('echo "[$OTHER]"', tmp_path)
    assert "OTHER" in ended.output
    assert ended.status not in (0, None)


def test_no_value_is_in_the_arguments(tmp_path: Path) -> None:
    """Any user of the machine can read those."""
    ended = carry_out(
        'echo "$WORD" >/dev/null; tr "\\0" " " < /proc/$$/cmdline; tr "\\0" " " < /proc/$PPID/cmdline', tmp_path
    )
    assert "$WORD" in ended.output
    assert "secret" not in ended.output


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """Also what ignores a polite signal."""
    began = time.monotonic()
    ended = carry_out("trap '' TERM; echo on; sh -c 'echo $$ > pid; sleep 1000' & wait", tmp_path, within_s=1.0)
    assert time.monotonic() - began < 1.0 + SOON_S
    assert (ended.output, ended.status, ended.why) == ("on\n", None, "it was not over in time")
    assert is_gone(pid_in(tmp_path / "pid"))


def test_what_it_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    """Though it holds the output open: a step is over when its command is."""
    began = time.monotonic()
    ended = carry_out("sleep 1000 & echo $! > pid; echo done", tmp_path)
    assert time.monotonic() - began < SOON_S
    assert (ended.output, ended.status) == ("done\n", 0)
    assert is_gone(pid_in(tmp_path / "pid"))


def test_a_flood_is_cut_off(tmp_path: Path) -> None:
    """Its beginning is kept."""
    ended = carry_out("echo first; yes", tmp_path)
    assert ended.output.startswith("first\ny\n")
    assert len(ended.output) == shell.OUTPUT_BYTES_MAX
    assert (ended.status, ended.why) == (None, "it printed more than 64 KiB")


def test_output_that_is_no_text_is_shown(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 don't keep the rest from being seen."""
    assert carry_out("printf 'a\\377b'", tmp_path).output == "a\N{REPLACEMENT CHARACTER}b"


def test_it_waits_for_no_one_at_the_keyboard(tmp_path: Path) -> None:
    """Its input is empty."""
    assert carry_out("cat; echo over", tmp_path).output == "over\n"


def test_a_run_that_is_aborted_ends_it_at_once(tmp_path: Path) -> None:
    """What the watch raises goes on upwards, and the command is gone."""

    def watch() -> None:
        if (tmp_path / "pid").exists():
            raise InterruptedError("aborted")

    with pytest.raises(InterruptedError, match="aborted"):
        shell.run("echo $$ > pid; sleep 1000", ENV, tmp_path, 20.0, watch)
    assert is_gone(pid_in(tmp_path / "pid"))


def test_it_yields_to_what_is_tested(tmp_path: Path) -> None:
    """Looking must not slow down what it looks at."""
    assert carry_out("sleep 0.2; nice", tmp_path).output == f"{shell.NICENESS}\n"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    """An error, not a traceback."""
    with pytest.raises(DriverError, match="no shell in"):
        carry_out("true", tmp_path / "none")


def test_its_end_is_its_own_when_gameday_is_killed(tmp_path: Path) -> None:
    """The bound holds without the one who set it."""
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)]) as own:
        pid = pid_in(tmp_path / "pid")
        own.kill()
    assert is_gone(pid)
