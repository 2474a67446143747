"""Register every failure test as <name>/<stack> and the night as nightly/<stack>. Idempotent.

`python -m deployments.register` registers with the Prefect server that gameday.toml names. The flows run in whatever
worker serves its work pool; only gameday's own schedule is touched. Several stacks have each their own on one server.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr

from gameday.stack.config import StackConfig
from gameday.stack.reading import default_path, folder_of_tests, load
from gameday.stack.variables import revealed
from gameday.state import ROOT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.flows import Flow

__all__ = ["register"]

DEPLOYMENTS_MAX = 200
"""As many as Prefect tells at once; a stack has a few dozen."""


def register(config: StackConfig) -> list[str]:
    """Create or update the work pool, the deployments and the automations; the names of both. What was registered for
    this stack before and isn't now is removed: a night under an older name would start a second one."""
    from prefect.client.orchestration import get_client
    from prefect.schedules import Cron

    from deployments.automations import automate
    from flows import GENERAL, catalogue, general
    from tasks.telling import secret

    with get_client(sync_client=True) as client:
        _pool(client, config.prefect.work_pool)
    own = catalogue()
    folders = {**dict.fromkeys(general(), GENERAL), **dict.fromkeys(own, folder_of_tests())}
    names = [_deploy(config, folder / f"{name}.py") for name, folder in folders.items()]
    nightly, cron = ROOT / "flows" / "nightly.py", Cron(config.prefect.cron, timezone=config.prefect.timezone)
    names.append(_deploy(config, nightly, cron))
    with get_client(sync_client=True) as client:
        _forget(client, config.name, names)
    alert_url = config.prefect.alert_url
    opened = None if alert_url is None else SecretStr(revealed(alert_url, secret, "prefect.alert_url"))
    return [*names, *automate(opened)]


def _pool(client: SyncPrefectClient, name: str) -> None:
    """Create the work pool where there is none. One of the user's own stays as it is, whatever its type; who registers
    need not have the right to make one then."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        with contextlib.suppress(ObjectAlreadyExists):  # its worker, which makes it too, was quicker
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def _forget(client: SyncPrefectClient, stack: str, names: Sequence[str]) -> None:
    """Remove the deployments of this stack that have none of these names."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["gameday", stack]))
    for found in client.read_deployments(deployment_filter=ours, limit=DEPLOYMENTS_MAX):
        if f"{client.read_flow(found.flow_id).name}/{found.name}" not in names:
            client.delete_deployment(found.id)


def _deploy(config: StackConfig, path: Path, schedule: Any = None) -> str:
    """path: the file with the flow, which is named after it."""
    from prefect.flows import Flow

    source = ROOT if path.is_relative_to(ROOT) else path.parent
    entrypoint = f"{path.relative_to(source)}:{path.stem}"
    found = cast("Flow[..., Any]", Flow.from_source(source=str(source), entrypoint=entrypoint))
    found.to_deployment(
        name=config.name,
        work_pool_name=config.prefect.work_pool,
        parameters={"stack": str(default_path().resolve())},
        tags=["gameday", config.name, path.stem],
        schedule=schedule,
    ).apply()  # type: ignore[union-attr]
    return f"{found.name}/{config.name}"


def main() -> None:
    """Register, and print what was registered."""
    config = load()
    config.prefect.applied(os.environ)
    for name in register(config):
        print(name)  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main()
