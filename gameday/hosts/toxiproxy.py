"""Controls links between components: proxies of a Toxiproxy server, one per (from, to) pair, named in the stack.

faults/ decide what is done to a link; a link knows nothing of its ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from gameday.errors import DriverError
from gameday.model import Json
from gameday.stack.config import Http
from gameday.system import address as addresses
from gameday.system.http import Kept, Unanswered
from gameday.system.tls import PLAIN, Tls

__all__ = ["Host"]

ANSWER_S = 2.0
"""For one answer; its API takes at most 8 ms."""


@dataclass(frozen=True)
class Host:
    """url: that of Toxiproxy's HTTP API. vantage: URL of a point that reaches what the links' clients reach
    (vantage.py); None: this machine does. address: Toxiproxy's host as the clients call it, for proxies that listen on
    every address ("[::]:9101"); None: the one in url. names: unused, for a proxy is no component. Offers Links, Shape.
    """

    url: Http
    vantage: Http | None = None
    address: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    tls: Tls = PLAIN

    # ---- Links -----------------------------------------------------------------------------------------------

    def links(self) -> Mapping[str, Json]:
        proxies = self._ask("GET", "/proxies")
        return {
            name: {key: p[key] for key in ("listen", "upstream", "enabled", "toxics")} for name, p in proxies.items()
        }

    # ---- Shape -----------------------------------------------------------------------------------------------

    def cut(self, link: str) -> None:
        self._ask("POST", f"/proxies/{quote(link)}", {"enabled": False})

    def join(self, link: str) -> None:
        """Join it again. A link that was removed meanwhile stays removed: this act did not do that."""
        self._ask("POST", f"/proxies/{quote(link)}", {"enabled": True}, fine=(HTTPStatus.NOT_FOUND,))

    def distort(self, link: str, name: str, kind: str, stream: str, attributes: Mapping[str, Json]) -> None:
        toxic = {"name": name, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": dict(attributes)}
        self._ask("POST", f"/proxies/{quote(link)}/toxics", toxic, fine=(HTTPStatus.CONFLICT,))

    def restore(self, link: str, name: str) -> None:
        self._ask("DELETE", f"/proxies/{quote(link)}/toxics/{quote(name)}", fine=(HTTPStatus.NOT_FOUND,))

    def reaction_s(self, address: str) -> float | None:
        from gameday.system import vantage  # only here: it imports a server, which looking at links doesn't need

        there = self._there(address)
        return vantage.reaction_s(there) if self.vantage is None else vantage.asked_s(self.vantage, there, self.tls)

    def manner(self, address: str) -> str:
        from gameday.system import vantage

        there = self._there(address)
        if self.vantage is not None:
            return vantage.asked_manner(self.vantage, there, self.tls)
        try:
            return vantage.manner(there)
        except OSError as e:
            raise DriverError(f"{address}, as seen from this machine: {e}", definite=True) from e

    def _there(self, address: str) -> str:
        """Return the address as the links' clients call it. "Every address" is on Toxiproxy's machine, not theirs."""
        from gameday.system import vantage

        host, _, port = address.rpartition(":")
        if host.strip("[]") not in vantage.ANY:
            return address
        if self.address is None and self.vantage is not None:
            raise DriverError(
                f"a proxy listens on every address ({address}), and {self.vantage} is not told which one its clients "
                f"use. Remedy: hosts.toxiproxy.address = Toxiproxy's host as its clients call it",
                definite=True,
            )
        known = self.address or urlsplit(self.url).hostname or ""
        return f"[{known}]:{port}" if ":" in known else f"{known}:{port}"

    # ---- its API ---------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, body: Json = None, fine: tuple[int, ...] = ()) -> Mapping[str, Json]:
        """Send one request; each may be sent twice. fine: statuses that mean that all is already as asked."""
        try:
            status, text, _ = self._api.ask(method, path, ANSWER_S, None if body is None else json.dumps(body).encode())
            if status >= HTTPStatus.BAD_REQUEST and status not in fine:
                raise DriverError(
                    f"toxiproxy at {self.url} answered {method} {path} with {status}: {text[:200]!r}",
                    definite=True,
                )
            answer: Mapping[str, Json] = json.loads(text) if text else {}
        except (Unanswered, ValueError) as e:
            raise DriverError(
                f"toxiproxy at {self.url} does not answer {method} {path}: {e}. Remedy: gameday status",
                definite=method == "GET",
            ) from e
        return answer

    @cached_property
    def _api(self) -> Kept:
        return Kept(addresses.of(self.url), self.tls)
