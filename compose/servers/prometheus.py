"""Runs Prometheus, which scrapes the platform's metrics and judges its rules. Loopback only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compose.servers import Report, debian
from compose.service import Service
from gameday.errors import GamedayError

__all__ = ["PACKAGE", "Target", "found", "get", "process", "quickened", "tool"]

PACKAGE = "prometheus"
RETENTION = "2d"
EVERY_S = 1.0
"""The time between two scrapes, and between two judgements of the rules: both add to a test's time to the alert."""

FOR = re.compile(r"^(\s*for:\s*)(\d+)([smh])\b", re.MULTILINE)
SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Target:
    """A target to scrape: its job, its component, its port. keep: a regex of the metrics to keep."""

    job: str
    component: str
    port: int
    every_s: float = EVERY_S
    keep: str | None = None


def get(report: Report) -> bool:
    """Whether it can be run here."""
    return debian.get(PACKAGE, "prometheus", report)


def found() -> bool:
    return debian.program(PACKAGE, "prometheus") is not None


def tool() -> Path | None:
    """Return promtool, which tests rules; None: it isn't here."""
    return debian.program(PACKAGE, "promtool")


def quickened(rules: str, times: float) -> str:
    """Make every `for` of the rules so many times shorter: minutes in production can be tested in seconds."""
    return FOR.sub(lambda m: f"{m[1]}{round(int(m[2]) * SECONDS[m[3]] * 1000 / times)}ms", rules)


def process(folder: Path, port: int, targets: Sequence[Target], rules: str, alertmanager_port: int | None) -> Service:
    """Write the configuration and the rules. alertmanager_port: None: alerts fire here and notify nobody."""
    program = debian.program(PACKAGE, "prometheus")
    if program is None:
        raise GamedayError(f"there is no prometheus here. Remedy: apt-get install {PACKAGE}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(rules)
    managers = [f"127.0.0.1:{alertmanager_port}"] if alertmanager_port is not None else []
    config = {
        "global": {
            "scrape_interval": f"{EVERY_S:g}s",
            "scrape_timeout": f"{EVERY_S * 900:g}ms",
            "evaluation_interval": f"{EVERY_S:g}s",
        },
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": managers}]}]},
        "scrape_configs": [_job(job, [t for t in targets if t.job == job]) for job in {t.job: None for t in targets}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config, indent=1))  # JSON is YAML
    local = f"127.0.0.1:{port}"
    argv = [
        *(str(program), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--storage.tsdb.retention.time={RETENTION}", f"--web.listen-address={local}", "--log.level=warn"),
        f"--rules.alert.resend-delay={EVERY_S:g}s",
    ]
    return Service("prometheus", tuple(argv), str(folder), ready=f"http://{local}/-/ready")


def _job(name: str, targets: Sequence[Target]) -> Mapping[str, object]:
    first = targets[0]
    kept = [{"source_labels": ["__name__"], "regex": first.keep, "action": "keep"}] if first.keep else []
    return {
        "job_name": name,
        "scrape_interval": f"{first.every_s:g}s",
        "static_configs": [{"targets": [f"127.0.0.1:{t.port}"], "labels": {"component": t.component}} for t in targets],
        "metric_relabel_configs": kept,
    }
