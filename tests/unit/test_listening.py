"""Who listens where, as the kernel tells it: the same by either way of asking."""

from __future__ import annotations

import os
import socket

import pytest

from gameday.system import process


def test_a_listening_socket_is_found_by_its_port_and_among_its_process_s() -> None:
    """On either protocol, as long as it listens; a connection is none."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as server:
            port = server.getsockname()[1]
            with socket.create_connection((host, port)) as client:
                own = client.getsockname()[1]
                found = process.listening()
                assert found[port] <= process.sockets(os.getpid())
                assert len(found[port]) == 1
                assert own not in found
        assert port not in process.listening()


def test_without_the_kernel_s_answer_its_table_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that may not ask."""

    def refused(family: int) -> list[tuple[int, int]]:
        raise OSError(93, "not supported")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = process.listening()[port]
        monkeypatch.setattr(process, "_asked", refused)
        assert process.listening()[port] == asked
