"""Processes, as /proc tells of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from gameday.system.process import Process, families

NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"a) \\xff(", 0, 0, 0)
print("named", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def named() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name is no text, and looks as if it ended early."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", NAMED], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        yield process
        process.kill()


def test_a_process_may_be_called_anything(named: subprocess.Popen[bytes]) -> None:
    """A stranger's name must not keep gameday from looking at the processes of a machine."""
    found = Process.of(named.pid)
    assert found is not None
    assert found.state in ("R", "S", "D")
    assert found in [process for children in families().values() for process in children]
