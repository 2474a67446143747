"""Links between components as proxies of a Toxiproxy server, one per (from, to) pair. The stack says which."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gameday.errors import DriverError
from gameday.model import Json

__all__ = ["Host"]

ANSWER_S = 2.0
"""Its API answers within 8 ms."""


@dataclass(frozen=True)
class Host:
    """url: of Toxiproxy's HTTP API. names: unused, for a proxy is no component. Offers Links."""

    url: str
    names: Mapping[str, str] = field(default_factory=dict)

    def links(self) -> Mapping[str, Json]:
        proxies = self._get("/proxies")
        return {
            name: {key: p[key] for key in ("listen", "upstream", "enabled", "toxics")} for name, p in proxies.items()
        }

    def _get(self, path: str) -> Mapping[str, Json]:
        """One GET, without any proxy between. Reading has no effect, so every failure is definite."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status != http.client.OK:
                raise DriverError(f"toxiproxy at {self.url} answered {path} with {response.status}", definite=True)
            answer: Mapping[str, Json] = json.loads(body)
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise DriverError(
                f"toxiproxy at {self.url} does not answer {path}: {e}. Remedy: gameday status", definite=True
            ) from e
        finally:
            connection.close()
        return answer
