"""Reads a program's own metrics in Prometheus' text format. It is a probe: each series becomes a series of samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client.parser import text_string_to_metric_families

from gameday.errors import DriverError
from gameday.stack.config import Http
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["SERIES_MAX", "Probe"]

SERIES_MAX = 2_000
"""So many series of a program are sampled. A program that has more has a label without bound; ".series" shows that."""

LEFT_OUT = ("_created", "_bucket")
"""Series that are not read: when a series began, and a histogram's buckets (its sum and count are enough)."""


@dataclass(frozen=True)
class Probe:
    """prefixes: those of the names that are read."""

    url: Http
    timeout_s: float
    prefixes: Sequence[str]
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return "": 1.0; 'NAME{"LABEL": "VALUE", …}': value, for each series; "# TYPE NAME": 1.0, for each metric;
        ".series": the number of series."""
        try:
            answer = ask("GET", self.url, self.timeout_s, tls=self.tls)
        except Unanswered as e:
            raise DriverError(f"GET {self.url}: {e}", definite=True) from e
        if answer.status != HTTPStatus.OK:
            raise DriverError(f"GET {self.url} answered {answer.status}", definite=True)
        try:
            return self._series(answer.body.decode())
        except ValueError as e:
            raise DriverError(f"GET {self.url} is not in Prometheus' text format: {e}", definite=True) from e

    def _series(self, text: str) -> dict[str, float]:
        types: dict[str, float] = {}
        values: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if not name.startswith(tuple(self.prefixes)) or name.endswith(LEFT_OUT):
                continue
            types[f"# {family.type} {name}"] = 1.0
            for sample in family.samples:
                if not sample.name.endswith(LEFT_OUT):
                    values[f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}"] = float(sample.value)
        kept = dict(list(values.items())[:SERIES_MAX])
        return {"": 1.0, ".series": float(len(values)), **types, **kept}
