"""The rules of the house that no linter knows: each test is one rule, and its error names the file and the remedy.

What ruff, mypy and import-linter can say is theirs; the directions of imports are run here so that one command shows
them.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from gameday.state import ROOT

FAULT_LINES_MAX = 90
"""One fault a file, small enough to be read at three in the morning."""

SLEEPERS = {"gameday/system/polling.py"}
"""The one loop that sleeps."""
IMPORTERS = {"gameday/stack/registry.py"}
"""The one registry."""

PRODUCT = ("gameday", "tasks", "flows", "deployments", "compose", "pipelines", "failpoints", "benchmarks", "examples")

REGISTRIES = re.compile(
    r"pypi\.o[r]g|pythonhosted\.o[r]g|npmjs\.(?:com|o[r]g)|proxy\.golan[g]\.org|docker\.i[o]/|\w\.docker\.i[o]|ghcr\.i[o]|quay\.i[o]"
    r"|maven\.o[r]g|maven\.apach[e]|crates\.i[o]"
)
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:work|home|root|Users)/\w")
LATER = re.compile(r"\b(?:TODO|FIXME)\b")


def tracked() -> list[Path]:
    """The files under version control; all files of a checkout without it, but for what is made."""
    made = {".git", ".venv", ".gameday", "build", "__pycache__"}
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        found = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = [p for p in ROOT.rglob("*") if not made & set(p.relative_to(ROOT).parts)]
    return sorted(p for p in found if p.is_file())


FILES = tracked()
PYTHON = [p for p in FILES if p.suffix == ".py"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_with(pattern: re.Pattern[str], among: list[Path]) -> Iterator[str]:
    for path in among:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                yield f"{name(path)}:{number}: {line.strip()[:100]}"


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every call, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_there_is_something_to_look_at() -> None:
    """The rules below would hold of nothing at all."""
    assert {"gameday/records/hashing.py", "tests/tidy/test_house.py"} <= {name(p) for p in PYTHON}


def test_every_module_opens_with_what_it_is_for() -> None:
    """A header, also in tests; an empty __init__.py needs none."""
    without = [
        name(p)
        for p in PYTHON
        if (text := p.read_text()).strip() and not (ast.get_docstring(ast.parse(text)) or "").strip()
    ]
    assert not without, f"no docstring at the top of {without}"


def test_every_test_says_what_holds() -> None:
    """A test's docstring is a sentence of behaviour."""
    silent = [
        f"{name(p)}::{node.name}"
        for p in PYTHON
        if p.name.startswith("test_")
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent, f"no docstring in {silent}"


def test_every_module_of_the_core_says_what_is_public() -> None:
    """__all__, everywhere but in packages' __init__ that only hold files, and in model.py, which is all public."""
    without = [
        name(p)
        for p in PYTHON
        if name(p).startswith("gameday/")
        and p.name not in ("__init__.py", "__main__.py", "model.py")
        and not re.search(r"^__all__\b", p.read_text(), flags=re.MULTILINE)
    ]
    assert not without, f"no __all__ in {without}"


def test_a_fault_fits_on_a_page() -> None:
    """One fault a file, short; what several share is no fault."""
    long = {
        name(p): count
        for p in PYTHON
        if name(p).startswith("gameday/faults/")
        and not p.name.startswith("_")
        and (count := len(p.read_text().splitlines())) > FAULT_LINES_MAX
    }
    assert not long, f"longer than {FAULT_LINES_MAX} lines: {long}"


def test_one_loop_sleeps() -> None:
    """Everything else waits for a state, with gameday.system.polling.until, or on an event with a time-out."""
    found = [
        f"{name(p)}:{line}"
        for p in PYTHON
        if name(p) not in SLEEPERS and (name(p).startswith(PRODUCT) or name(p).startswith("tests/"))
        for line, called in calls(ast.parse(p.read_text()))
        if called in ("time.sleep", "sleep")
    ]
    assert not found, f"time.sleep in {found}; wait for a state instead"


def test_one_registry_imports_by_name() -> None:
    """In the core only stack/registry.py imports what a text names."""
    found = [
        f"{name(p)}:{line}"
        for p in PYTHON
        if name(p).startswith("gameday/") and name(p) not in IMPORTERS
        for line, called in calls(ast.parse(p.read_text()))
        if "import_module" in called or called == "__import__"
    ]
    assert not found, f"import by name in {found}; use gameday.stack.registry"


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        (REGISTRIES, "the user's own package settings say where packages come from"),
        (MACHINE_PATHS, "paths come from the state folder or the environment"),
        (LATER, "open an issue"),
    ],
    ids=["registry hosts", "machine paths", "things for later"],
)
def test_text_that_does_not_belong_here(pattern: re.Pattern[str], remedy: str) -> None:
    """Hosts of registries, paths of one machine, notes for later: in no file, of any kind."""
    found = list(lines_with(pattern, [p for p in FILES if p != Path(__file__).resolve()]))
    assert not found, f"{found}; {remedy}"


def flows() -> list[Path]:
    return [p for p in PYTHON if re.match(r"flows/\w+/", name(p)) and p.stem != "__init__"]


def test_one_stem_names_a_failure_test() -> None:
    """The file of a flow defines a function of its name."""
    odd = [
        name(p)
        for p in flows()
        if p.stem not in {n.name for n in ast.parse(p.read_text()).body if isinstance(n, ast.FunctionDef)}
    ]
    assert flows()
    assert not odd, f"no function of the file's name in {odd}"


def test_every_failure_test_has_a_runbook_and_every_runbook_a_failure_test() -> None:
    """What the engineer opens at night is there, under the test's name."""
    runbooks = {name(p.with_suffix("")).removeprefix("runbooks/") for p in FILES if name(p).startswith("runbooks/")}
    assert {name(p.with_suffix("")).removeprefix("flows/") for p in flows()} == runbooks


def test_stems_are_unique() -> None:
    """Two failure tests, checks, faults, drivers or hosts of one name can't both be meant."""
    for folder in ("flows", "gameday/faults", "gameday/verdict/checks", "gameday/drivers", "gameday/hosts"):
        stems = Counter(p.stem for p in PYTHON if name(p).startswith(f"{folder}/") and p.stem != "__init__")
        twice = [stem for stem, count in stems.items() if count > 1]
        assert not twice, f"more than one {twice} in {folder}"


def test_every_folder_of_tests_is_a_package() -> None:
    """Else two test files of one name hide each other as soon as both are collected."""
    folders = {p.parent for p in PYTHON if p.name.startswith("test_")}
    bare = [name(folder) for folder in folders if not (folder / "__init__.py").exists()]
    assert not bare, f"no __init__.py in {bare}"


def test_every_check_is_offered_and_every_check_file_is_a_check() -> None:
    """checks/__init__.py lists exactly the files beside it."""
    from gameday.verdict import checks

    files = {p.stem for p in PYTHON if p.parent == ROOT / "gameday/verdict/checks" and not p.stem.startswith("_")}
    assert files == set(checks.__all__) - {"INTACT", "EXPORTED", "counts", "guilty"}


def test_every_explanation_of_a_silenced_linter_names_its_rule() -> None:
    """`noqa` and `type: ignore` without a rule would hide the next mistake too."""
    bare = re.compile(r"#\s*(?:noqa(?!: [A-Z])|type:\s*ignore(?!\[))")
    found = list(lines_with(bare, [p for p in PYTHON if p != Path(__file__).resolve()]))
    assert not found, f"{found}; name the rule"


def test_imports_keep_the_directions_of_the_house() -> None:
    """The contracts in pyproject.toml, as `make lint` runs them."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count, and those that only types need: who reads one module need not read them all."""
    packages = ("gameday", "tasks", "flows", "deployments", "compose", "pipelines", "failpoints")
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as e:
        pytest.fail(f"a circle of imports: {' <- '.join(e.args[1])}")


OF_TRADES = re.compile(r"\b(trades?|venues?|symbol|ohlcv|TRADE_FIELDS|binance|kraken|prices?)\b", re.IGNORECASE)
NAMES_OF_TRADES = {
    "gameday/state.py": "the platform that is meant where none is named",
    "gameday/records/declaration.py": "the keys that are gone, which errors name",
}


def test_the_core_knows_no_trades() -> None:
    """A record is what a gameday.toml declares: no word of the reference platform's is in gameday/."""
    core = [path for path in PYTHON if name(path).startswith("gameday/") and name(path) not in NAMES_OF_TRADES]
    assert len(core) > 100
    assert {name(path): found[0] for path in core if (found := OF_TRADES.search(path.read_text()))} == {}
