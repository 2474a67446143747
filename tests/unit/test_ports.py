"""Ports are drawn once, whoever draws at the same time."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from compose import ports
from gameday.state import ROOT

DRAW = "import sys\nfrom compose.ports import free_ports\nprint(*free_ports(3), flush=True)\nsys.stdin.read()"


def test_what_another_process_has_drawn_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody listens there yet; once that process has ended they are free again."""
    other = subprocess.Popen([sys.executable, "-c", DRAW], cwd=ROOT, stdin=-1, stdout=-1, text=True)
    assert other.stdin is not None
    assert other.stdout is not None
    taken = [int(port) for port in other.stdout.readline().split()]
    draw, offered = random.randrange, list(taken)
    monkeypatch.setattr(random, "randrange", lambda *span: offered.pop() if offered else draw(*span))
    assert not set(taken) & set(ports.free_ports(1))
    assert not offered
    other.stdin.close()
    other.wait()
    offered = list(reversed(taken))
    assert ports.free_ports(3) == taken


def test_a_process_draws_no_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not in two calls: the server of the first may only be on its way."""
    before = ports.free_ports(2)
    draw, offered = random.randrange, list(before)
    monkeypatch.setattr(random, "randrange", lambda *span: offered.pop() if offered else draw(*span))
    assert not set(before) & set(ports.free_ports(1))
    assert not offered
