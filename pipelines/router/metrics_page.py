"""docs/metrics-router.md, made of contract.toml: python -m pipelines.router.metrics_page > docs/metrics-router.md."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.router.metrics import CONTRACT

__all__ = ["page"]

HEAD = """\
# The router's metrics

Made of [contract.toml](../pipelines/router/contract.toml) by `python -m pipelines.router.metrics_page`. Each program
of the router (caller, routers, worker) tells all of them from its start, each with the label `backend`: {backends}. No
label has a message's id: ids are in the dead letters' headers, in the programs' logs and in the observer's account.

| metric | type | labels | tells |
|---|---|---|---|
"""

RISES = """
These counters must rise as what really happened; the check `metrics_true` holds every run against that
([metrics-contract.md](metrics-contract.md)):

| counter | must rise as | but not where this was struck |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    declared = tomllib.loads(CONTRACT.read_text())
    backends = ", ".join(f"`{one}`" for one in declared["variants"]["values"])
    rows = [_row(name, metric) for name, metric in declared["metrics"].items()]
    rises = [_rise(one) for one in declared["rises"]]
    return HEAD.format(backends=backends) + "".join(rows) + RISES + "".join(rises)


def _row(name: str, metric: Mapping[str, Any]) -> str:
    differs = "; ".join(_differs(metric))
    labels = " ".join(f"`{label}` ({', '.join(values)})" for label, values in metric.get("labels", {}).items())
    return f"| `{name}` | {metric['type']} | {labels} | {metric['help']}{' ' + differs if differs else ''} |\n"


def _differs(metric: Mapping[str, Any]) -> Iterator[str]:
    """How it is on some backends."""
    if absent := metric.get("absent"):
        yield f"Not over {', '.join(absent)}."
    for backend, labels in metric.get("only", {}).items():
        for label, values in labels.items():
            yield f"Over {backend} `{label}` is {', '.join(values)}."


def _rise(one: Mapping[str, Any]) -> str:
    where = ", ".join(f'{label}="{value}"' for label, value in one.get("where", {}).items())
    return f"| `{one['metric']}{{{where}}}` | `{one['as']}` | {', '.join(one.get('unless_struck', ()))} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
