"""What is registered with a real Prefect server: one finds it by its tags and understands its form. And what the steps
ask that server for, or show on it: secrets, a night's progress."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import catalogue, general
from gameday.state import ROOT
from tests.contract.conftest import prefect_environment
from tests.contract.test_automations import Prefect
from tests.fakes import OWN_TEST, write_config

SECRET = "xoxb-kept-by-prefect"


@pytest.fixture(scope="module")
def registered(prefect_api_url: str, tmp_path_factory: pytest.TempPathFactory) -> Prefect:
    """Everything that `python -m deployments.register` makes; in a process of its own, for its address."""
    path = write_config(tmp_path_factory.mktemp("registered"))
    path.write_text(path.read_text().replace("http://127.0.0.1:1/api", prefect_api_url, 1))
    run(prefect_api_url, "-m", "deployments.register", GAMEDAY_CONFIG=str(path))
    return Prefect(prefect_api_url)


def run(api_url: str, *argv: str, **env: str) -> str:
    settings = {**os.environ, **prefect_environment(api_url), "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([sys.executable, *argv], env=settings, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def deployments(prefect: Prefect, stack: str = "toy") -> dict[str, Any]:
    ours = {"deployments": {"tags": {"all_": ["gameday", stack]}}}
    return {found["tags"][-1]: found for found in prefect.ask("/deployments/filter", ours)}


def test_each_test_and_the_night_are_found_by_their_tags(registered: Prefect) -> None:
    """gameday, the stack, the test."""
    found = deployments(registered)
    assert set(found) == {*catalogue(), *general(), "nightly"}
    assert all(one["tags"][:2] == ["gameday", "toy"] for one in found.values())


@pytest.mark.parametrize("name", [*catalogue(), *general(), "nightly"])
def test_the_form_says_what_every_parameter_means(registered: Prefect, name: str) -> None:
    """As the server has it, which is what its page shows."""
    properties = deployments(registered)[name]["parameter_openapi_schema"]["properties"]
    assert "stack" in properties
    assert {key: p["description"].strip() for key, p in properties.items() if not p.get("description")} == {}
    assert all(len(p["description"].split()) >= 3 for p in properties.values())


def test_a_block_gives_its_secret_to_the_steps(registered: Prefect, prefect_api_url: str) -> None:
    """And an unknown one is named, with how to make it."""
    ask = (
        "from prefect.blocks.system import Secret\nfrom gameday.errors import ConfigError\n"
        "from tasks.telling import secret\n"
        f"Secret(value={SECRET!r}).save('slack-token', overwrite=True)\nprint(secret('slack-token'))\n"
        "try:\n    secret('none-such')\nexcept ConfigError as e:\n    print(e)"
    )
    kept, missing = run(prefect_api_url, "-c", ask).splitlines()
    assert kept == SECRET
    assert "no Secret block 'none-such'" in missing


def test_a_night_s_progress_is_an_artifact_that_grows(prefect_api_url: str, tmp_path: Path) -> None:
    """One of a flow run's, from 0 to 100, under the same key each night."""
    script = tmp_path / "night.py"
    script.write_text(
        "from prefect import flow\nfrom flows.nightly import Progress\n"
        "@flow\ndef a_night():\n    p = Progress(2)\n"
        "    p.show(0, 'now a')\n    p.show(1, 'now b')\n    p.show(2, 'all')\n"
        "a_night()\nProgress(2).show(0, 'outside a flow run')\n"
    )
    run(prefect_api_url, str(script))
    prefect = Prefect(prefect_api_url)
    found = prefect.ask("/artifacts/filter", {"artifacts": {"key": {"any_": ["night-progress"]}}})
    assert [(one["type"], one["data"], one["description"]) for one in found] == [
        ("progress", 100.0, "2 of 2 tests done: all")
    ]


def test_failure_tests_of_a_stack_s_own_are_registered(prefect_api_url: str, tmp_path: Path) -> None:
    """From the folder that its gameday.toml names, outside the checkout."""
    path = write_config(tmp_path)
    text = path.read_text().replace("http://127.0.0.1:1/api", prefect_api_url, 1).replace('"toy"', '"own"', 1)
    path.write_text(f'{text}\n[tests]\nfolder = "failures"\n')
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "ours.py").write_text(OWN_TEST)
    run(prefect_api_url, "-m", "deployments.register", GAMEDAY_CONFIG=str(path))
    found = deployments(Prefect(prefect_api_url), "own")
    assert set(found) == {"ours", *general(), "nightly"}
    assert found["ours"]["entrypoint"] == "ours.py:ours"
    assert found["ours"]["parameter_openapi_schema"]["properties"]["how"]["description"].strip() == "as restart has it."


def test_two_stacks_have_each_their_own_on_one_server(
    registered: Prefect, prefect_api_url: str, tmp_path: Path
) -> None:
    """The second one's night and tests take nothing from the first one's."""
    before = deployments(registered)
    path = write_config(tmp_path)
    path.write_text(
        path.read_text().replace("http://127.0.0.1:1/api", prefect_api_url, 1).replace('"toy"', '"staging"', 1)
    )
    run(prefect_api_url, "-m", "deployments.register", GAMEDAY_CONFIG=str(path))
    after, other = deployments(registered), deployments(registered, "staging")
    assert {name: (one["id"], one["parameters"], one["name"]) for name, one in after.items()} == {
        name: (one["id"], one["parameters"], "toy") for name, one in before.items()
    }
    assert {(one["parameters"]["stack"], one["name"]) for one in other.values()} == {(str(path), "staging")}
    assert set(other) == set(before)


def test_what_is_no_test_any_more_is_removed(registered: Prefect, prefect_api_url: str, tmp_path: Path) -> None:
    """Of this stack alone: a night of an older name would start a second one each day."""
    path = write_config(tmp_path)
    text = path.read_text().replace("http://127.0.0.1:1/api", prefect_api_url, 1).replace('"toy"', '"older"', 1)
    path.write_text(f'{text}\n[tests]\nfolder = "failures"\n')
    (tmp_path / "failures").mkdir()
    test = tmp_path / "failures" / "ours.py"
    test.write_text(OWN_TEST)
    run(prefect_api_url, "-m", "deployments.register", GAMEDAY_CONFIG=str(path))
    assert "ours" in deployments(registered, "older")
    test.rename(test.with_name("other.py"))
    (tmp_path / "failures" / "other.py").write_text(OWN_TEST.replace("def ours", "def other"))
    before = deployments(registered)
    run(prefect_api_url, "-m", "deployments.register", GAMEDAY_CONFIG=str(path))
    assert set(deployments(registered, "older")) == {"other", *general(), "nightly"}
    assert set(deployments(registered)) == set(before)
