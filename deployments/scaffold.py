"""The two files of a new failure test, for `gameday new NAME`, in the folders that gameday.toml names."""

from __future__ import annotations

import re
from pathlib import Path

from gameday.errors import ConfigError

__all__ = ["scaffold"]

FLOW = '''"""Failure test: {words}."""

from gameday.verdict.checks import INTACT, recovered
from gameday.sampling.conditions import flowing
from gameday.faults.restart import Restart
from gameday.plan import Await, FailureTest, Inject
from tasks import failure_test


@failure_test
def {name}() -> FailureTest:
    """Does the platform survive: {words}?"""
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Restart("broker"))),
        mttr_max_s=120,
        checks=(*INTACT, recovered),
    )
'''

RUNBOOK = """# {words}

## Symptom

What the person on call sees first.

## Alert

Its name, and what it says.

## Diagnosis

### The broker has only just been started

```sh gameday
gameday status | grep '^broker '
```

```expect
^broker +(no|pid \\d+ for \\d{{1,2}} s)\\b
```

## Recovery

What to do when the platform does not come back by itself.

## Verify

### The broker answers

```sh gameday
gameday status | grep '^broker '
```

```expect
^broker +pid \\d+ for \\d+ s +yes\\b
```

## Escalate

When, and to whom.

## Evidence

<!-- gameday:evidence -->
<!-- /gameday:evidence -->
"""


def scaffold(name: str, tests: Path, runbooks: Path) -> tuple[Path, Path]:
    """Write both files; a ConfigError when the name is no stem or one of the files is there already."""
    stem = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", stem):
        raise ConfigError(
            f"{name!r} is no name for a failure test. Remedy: lower case words joined by _: broker_disk_full"
        )
    runbooks.mkdir(parents=True, exist_ok=True)
    flow, runbook = tests / f"{stem}.py", runbooks / f"{stem}.md"
    for path in (flow, runbook):
        if path.exists():
            raise ConfigError(f"{path} exists already. Remedy: another name, or edit it")
    words = stem.replace("_", " ")
    flow.write_text(FLOW.format(name=stem, words=words))
    runbook.write_text(RUNBOOK.format(words=words.capitalize()))
    return flow, runbook
