"""The files that `gameday new` writes: of a failure test, in the folders that gameday.toml names, and of a driver,
beside gameday.toml.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from gameday.errors import ConfigError
from gameday.state import ROOT

__all__ = ["driver", "scaffold"]

MANUAL = ROOT / "docs" / "drivers.md"
"""It shows a driver, its tests and its lines of toml: what is written is what is explained."""

BLOCK = re.compile(r"```(?:python\n# (\S+)|(toml))\n(.*?)```", re.DOTALL)
STEM, CLASS = "my_drivers", "Sqlite"
"""The names that the manual gives them."""

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
    stem = _stem(name, "failure test", "broker_disk_full")
    runbooks.mkdir(parents=True, exist_ok=True)
    flow, runbook = tests / f"{stem}.py", runbooks / f"{stem}.md"
    words = stem.replace("_", " ")
    _write({flow: FLOW.format(name=stem, words=words), runbook: RUNBOOK.format(words=words.capitalize())})
    return flow, runbook


def driver(name: str, folder: Path) -> tuple[tuple[Path, Path], str]:
    """Write a driver and its tests into the folder of a gameday.toml; their paths, and the lines that name it there.

    Raises ConfigError when the name is no module's, or that of one that is installed, or a file is there already.
    """
    stem = _stem(name, "driver", "orders_db")
    module = _module(folder, stem)
    if "." not in module and not (folder / f"{stem}.py").exists() and importlib.util.find_spec(stem) is not None:
        raise ConfigError(f"{name!r} is the name of a module that is installed, which would hide it. Remedy: another")
    cls = "".join(part.capitalize() for part in stem.split("_"))
    blocks = {file or toml: text for file, toml, text in reversed(BLOCK.findall(MANUAL.read_text()))}
    found = {key: text.replace(STEM, module).replace(CLASS, cls) for key, text in blocks.items()}
    path, test = folder / f"{stem}.py", folder / f"test_{stem}.py"
    _write({path: found[f"{STEM}.py"], test: found[f"test_{STEM}.py"]})
    return (path, test), found["toml"]


def _stem(name: str, what: str, example: str) -> str:
    """A name as a file's; a ConfigError when it is none."""
    stem = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", stem) or keyword.iskeyword(stem):
        raise ConfigError(f"{name!r} is no name for a {what}. Remedy: lower case words joined by _: {example}")
    return stem


def _module(folder: Path, stem: str) -> str:
    """How a module of this folder is imported: by its packages' names too, where it lies in some."""
    names, folder = [stem], folder.resolve()
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names)


def _write(files: dict[Path, str]) -> None:
    """Both or, where one is there already, neither."""
    for path in files:
        if path.exists():
            raise ConfigError(f"{path} exists already. Remedy: another name, or edit it")
    for path, text in files.items():
        try:
            path.write_text(text)
        except OSError as e:
            raise ConfigError(
                f"{path} can't be written: {e.strerror}. Remedy: a folder that exists, and is yours"
            ) from e
