"""Makes the live Stack of a StackConfig: its components, links, hops and everything else in gameday.toml, each on first
use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.model import Check, Group, Shards
from gameday.plan import FIRES_WITHIN_S, Await, FailureTest, FiresWithin, Heal, Inject, OfRole
from gameday.ports import (
    Account,
    Alerts,
    Archive,
    Arrivals,
    Asks,
    Attempts,
    Canary,
    Channel,
    Cursor,
    Dated,
    Fault,
    Holds,
    Hop,
    Host,
    Inside,
    Job,
    Limited,
    Links,
    Lives,
    Log,
    Mirror,
    Points,
    Probe,
    Retains,
    Rights,
    Store,
    Symptoms,
)
from gameday.records.declaration import Stream
from gameday.stack import config as configuration
from gameday.stack.config import StackConfig
from gameday.stack.contract import Contract
from gameday.stack.contract import read as read_contract
from gameday.stack.probes import AlertState, Heads, OfItsOwn, OrInside, ProbeSpec, Slots, port_of
from gameday.stack.reading import default_path, load, placed
from gameday.stack.registry import build, driver_class, importable, near, offered
from gameday.stack.sharded import Bases, Sharded, sharding
from gameday.stack.stops import Stop
from gameday.stack.variables import revealed
from gameday.state import ROOT, RUNBOOKS, State, runbook_of

__all__ = ["ARCHIVE", "LiveStream", "Stack", "open_stack"]

INSIDE = (Points, Rights, Store)
"""The Protocols that a component or the archive offers, not a host."""

ARCHIVE = configuration.ARCHIVED

ARCHIVE_RATE_HZ = 4.0
"""How often the archive is asked. It gets a commit every few seconds at most, and each look costs a query and an
object."""

NO_ACCOUNT = "nobody tells of it: accounts.{}"

MIRROR_RATE_HZ = 1.0
"""How often the mirror is asked: each look is a connection to a database of the platform."""


@dataclasses.dataclass(frozen=True)
class LiveStream:
    """One stream of the stack: its declaration and its hops. made: makes a hop by its name, on first use."""

    stream: Stream
    made: Callable[[str], Hop]

    @property
    def name(self) -> str:
        return self.stream.name

    @property
    def hops(self) -> Mapping[str, Hop]:
        """The stream's hops by name, in order."""
        return {name: self.made(name) for name in self.stream.hops}

    @property
    def ledger(self) -> Hop:
        """The first hop: a Ledger, or, if the outside world can't be asked, the first place inside the platform."""
        return self.made(self.stream.hops[0])

    @property
    def visible(self) -> Hop:
        """The hop that users query."""
        return self.made(self.stream.visible)

    @property
    def ordered(self) -> bool:
        """Whether a log has the records in the order of their numbers. The canary's are not: attempts may overtake each
        other."""
        return self.stream.counted and not isinstance(self.ledger, Attempts)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the stream's logs read, as far as the logs tell."""
        logs = [hop for hop in self.hops.values() if isinstance(hop, Log)]
        return tuple(topic for log in logs for topic in getattr(log, "topics", ()))

    def affected(self, names: Collection[str], groups: tuple[Group, ...]) -> tuple[Group, ...]:
        """Return the groups whose path includes any of these components and roles."""
        return tuple(group for group in groups if set(names) & set(self.stream.roles(group)))


class Stack:
    """One configured stack. No server is contacted before it is asked for; every part is made once."""

    def __init__(self, config: StackConfig, state: State, path: Path | None = None) -> None:
        """path: the gameday.toml that config came from, for the processes that a run starts; None: the default one."""
        self.config = config
        self.state = state
        self.path = path or default_path()
        self.name = config.name
        self._hosts: dict[str, Any] = {}
        self._hops: dict[str, Any] = {}

    # ---- components ----------------------------------------------------------------------------------------

    def component(self, role: str) -> configuration.ComponentConfig:
        """Return the configuration of a component.

        Raises:
            ConfigError: there is no such component; the text has similar names.
        """
        try:
            return self.config.components[role]
        except KeyError:
            raise ConfigError(
                f"stack {self.name} has no component {role!r}. {near(role, self.config.components)}"
            ) from None

    def host(self, role: str) -> Host:
        """The host that runs this role."""
        return self.named_host(self.component(role).host)

    def named_host(self, name: str) -> Host:
        """Return a host, made on first use with the names of all its components."""
        if name not in self._hosts:
            settings = dict(self.config.hosts[name].model_extra or {})
            names = {role: c.name or role for role, c in self.config.components.items() if c.host == name}
            kind, where = str(settings.pop("driver", name)), f"hosts.{name}"
            made = offered("hosts", kind, "Host", (Host, Links), where)
            self._hosts[name] = build(made, {**settings, "names": names}, where)
        return self._hosts[name]

    def link_host(self, link: str) -> Host:
        """The host that keeps this link."""
        return self.named_host(self.link(link).host)

    def link(self, name: str) -> configuration.LinkConfig:
        """Return the configuration of a link.

        Raises:
            ConfigError: there is no such link; the text has similar names.
        """
        try:
            return self.config.links[name]
        except KeyError:
            raise ConfigError(f"stack {self.name} has no link {name!r}. {near(name, self.config.links)}") from None

    def permit(self, fault: Fault) -> None:
        """Raise ConfigError unless this fault is allowed: its component opted in, and is at an end of the struck
        link."""
        self.touchable(fault.component)
        name = getattr(fault, "link", None)
        if name is not None and fault.component not in self.link(name).between:
            raise ConfigError(
                f"{fault.component} is at neither end of link {name}, which is between "
                f"{' and '.join(self.link(name).between)}. Remedy: name one of these"
            )

    def lacks(self, fault: Fault) -> list[str]:
        """Return what is missing for this fault, one sentence each: the component or link is not configured; its host,
        or the component itself, can't do what the fault needs."""
        link = getattr(fault, "link", None)
        if fault.component not in self.config.components:
            return [f"stack {self.name} has no component {fault.component!r}"]
        if link is not None and link not in self.config.links:
            return [f"stack {self.name} has no link {link!r}"]
        component = self.component(fault.component)
        where = component.host if link is None else self.link(link).host
        if lacks := self._lacks_job(fault):
            return lacks
        able: list[object] = [self.named_host(where)]
        able += [self.points(fault.component)] if component.points else []
        able += [self.rights(fault.component)] if component.rights else []
        able += [self.archive] if Store in fault.needs else []
        missing = [need for need in fault.needs if not any(isinstance(one, need) for one in able)]
        if link is None and not missing and isinstance(able[0], Limited):
            return list(dict.fromkeys(filter(None, (able[0].cannot(fault.component, need) for need in fault.needs))))
        return [
            f"{fault.component if link is None else link} is on host {where!r}, which can't {need.__name__.lower()}"
            if need not in INSIDE
            else f"{fault.component} has no {need.__name__.lower()} in gameday.toml"
            if need is not Store
            else f"stack {self.name} has no archive whose files can be listed"
            for need in missing
        ]

    def resolved(self, test: FailureTest) -> FailureTest:
        """Return the test as it is carried out on this stack.

        A fault of a role with members becomes a fault of the first member that opted in, or one fault for each
        (test.members). An OfRole alert gets the name that is configured for the struck component's role. The stack's
        own checks are added.
        """
        plan: list[Inject | Await | Heal] = []
        for step in test.plan:
            fault = None if isinstance(step, Await) else step.fault
            if fault is None or fault.component not in self.config.roles:
                plan.append(step)
                continue
            made: Any = fault  # a frozen dataclass, as every fault is
            members = self._struck(fault.component, test.members)
            plan += [dataclasses.replace(step, fault=dataclasses.replace(made, component=one)) for one in members]
        alert = test.alert
        if isinstance(alert, OfRole) and (name := self.expected_alert(plan, alert)) is not None:
            alert = FiresWithin(name, FIRES_WITHIN_S)
        besides = tuple(check for check in self.checks if check not in test.checks)
        return dataclasses.replace(test, plan=tuple(plan), alert=alert, checks=(*test.checks, *besides))

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks that [tests] names, which run after every test."""
        return tuple(dict.fromkeys(map(self._check, self.config.tests.checks)))

    def _check(self, name: str) -> Check:
        made: Check = offered("checks", name, name.rpartition(":")[2], (), "tests.checks")
        return made

    def _struck(self, role: str, members: str) -> tuple[str, ...]:
        """Return the members of a role that a test strikes. If none has opted in, it is the first, whose error then
        says so."""
        known = self.config.members(role)
        willing = tuple(name for name in known if self.config.components[name].opt_in) or known[:1]
        return willing if members == "all" else willing[:1]

    def expected_alert(self, plan: Collection[Inject | Await | Heal], alert: OfRole) -> str | None:
        """Return the alert that [alerts.roles] names for this test and the role of the component that is struck
        last."""
        struck = [step.fault.component for step in plan if isinstance(step, Inject)]
        if not struck or self.config.alerts is None:
            return None
        return self.config.alerts.roles.get(self.config.kind(struck[-1]), {}).get(alert.done)

    def misses(self, test: FailureTest) -> list[str]:
        """Return what is missing for the whole test, in words; []: it can run."""
        found = ["the stack has no [archive]"] if test.archive and self.archive is None else []
        for step in self.resolved(test).plan:
            if isinstance(step, Inject):
                found += self.lacks(step.fault)
            elif isinstance(step, Await) and (name := getattr(step.condition, "cursor", None)) is not None:
                found += self._lacks_cursor(name)
        return list(dict.fromkeys(found))

    def _lacks_cursor(self, name: str) -> list[str]:
        """Return what is missing for a test that holds a consumer back."""
        if name not in self.config.cursors:
            return [f"stack {self.name} has no cursor {name!r}"]
        return [] if isinstance(self.cursor(name), Retains) else [f"cursor {name} can't tell what its log keeps"]

    def _lacks_job(self, fault: Fault) -> list[str]:
        """Return what is missing for a fault that asks for a run of a job."""
        if not isinstance(fault, Asks):
            return []
        if fault.job not in self.config.jobs:
            return [f"stack {self.name} has no job {fault.job!r}"]
        if hasattr(fault, "point") and not self.config.jobs[fault.job].points:
            return [f"the code of job {fault.job!r} has no failpoints (jobs.{fault.job}.points)"]
        return []

    def untold(self, stream: str | None = None) -> Mapping[str, str]:
        """Return check -> why it can't be judged on this stack, or of this stream: gameday.toml names nothing that
        could tell. (A server that is named and doesn't answer is not meant here.)"""
        config, streams = self.config, list(self.streams.values()) if stream is None else [self.streams[stream]]
        hops = [hop for live in streams for hop in live.hops.values()]
        told = {name for hop in hops if isinstance(hop, Symptoms) for name in hop.tells}
        silent = self.archive is not None and not self.archive.placed and self.mirror is None
        means = {
            "first_kept": (
                "not_first" in told,
                "no hop tells which row of a re-sent one it keeps: hops.*.first",
            ),
            "continuous": ("ingest_gap_s" in told, "no hop has the times of its inserts: hops.*.log"),
            "resumed": ("first_after_start" in told, "no hop has its rows' places in the log: hops.*.log"),
            "order": (
                any(
                    isinstance(hop, Log)
                    for live in streams
                    if live.ordered or live.stream.version is not None
                    for hop in live.hops.values()
                ),
                "no hop is a log whose records a number counts in its order",
            ),
            "offsets_advance": (bool(config.cursors), "no consumer's place in the log is known: cursors"),
            "upstream_flows": (bool(config.cursors), "the log's ends are not known: cursors"),
            "started_once": (
                any(isinstance(self.named_host(c.host), Lives) for c in config.components.values() if c.opt_in),
                "no host tells which processes it has started",
            ),
            "served": ("serving" in config.watches, "nothing fetches from the topics' leaders: watches.serving"),
            "metrics_true": (
                config.contract is not None,
                "no contract of the platform's own metrics is named: contract",
            ),
            "delivered_at_most": ("deliveries" in config.accounts, NO_ACCOUNT.format("deliveries")),
            "redelivered": ("deliveries" in config.accounts, NO_ACCOUNT.format("deliveries")),
            "dead_lettered": ("letters" in config.accounts, NO_ACCOUNT.format("letters")),
            "position_sane": (bool(config.cursors), "the log's ends are not known: cursors"),
            "watermark": (not silent, "the archive's commits have no position, and it has no mirror: archive.mirror"),
        }
        return {check: why for check, (can, why) in means.items() if not can}

    def mistakes(self) -> list[str]:
        """Return everything that is wrong with the tables that name a driver, a host or a check; []: every part can be
        made.

        Of a channel only the class is checked, because Prefect may keep its secrets.
        """
        config = self.config
        parts: list[Callable[[], object]] = [partial(self.named_host, name) for name in config.hosts]
        parts += [partial(self.hop, name) for name in config.hops]
        for section, tables, offers in (
            ("cursors", config.cursors, "Cursor"),
            ("jobs", config.jobs, "Job"),
            ("stops", config.stops, "Probe"),
            ("watches", config.watches, "Probe"),
            *((f"components.{role}.probes", c.probes, "Probe") for role, c in config.components.items()),
        ):
            for name, table in tables.items():
                timeout = {"timeout_s": table.timeout_s} if isinstance(table, configuration.ProbeConfig) else {}
                parts.append(partial(self._driver, section, name, table, offers, **timeout))
        for role, component in config.components.items():
            parts += [partial(self.points, role)] if component.points else []
            parts += [partial(self.rights, role)] if component.rights else []
        parts += [partial(getattr, self, name) for name in ("archive", "mirror", "alerts", "accounts", "contract")]
        parts += [partial(self._check, name) for name in config.tests.checks]
        parts += [partial(self.channel_takes, name) for name in config.channels]
        found: list[str] = []
        for make in parts:
            try:
                make()
            except ConfigError as e:
                found.append(str(e))
            except GamedayError:  # such as a missing package: told when that part is used
                continue
        return list(dict.fromkeys(found))

    def touchable(self, role: str) -> None:
        """Raise ConfigError unless this component opted in: only such components are ever broken or healed."""
        if not self.component(role).opt_in:
            raise ConfigError(
                f"component {role!r} has not opted in. Remedy: set components.{role}.opt_in = true in gameday.toml, "
                f"if it may be broken"
            )

    def points(self, role: str) -> Points:
        """Return the failpoints in this component's code.

        Raises:
            ConfigError: gameday.toml doesn't say how they are reached.
        """
        config = self.component(role).points
        if config is None:
            raise ConfigError(
                f'component {role!r} has no failpoints. Remedy: components.{role}.points = {{ driver = "failpoints", '
                f'socket = "…", evidence = "…" }} in gameday.toml, if its code has any'
            )
        return self._driver(f"components.{role}", "points", config, "Points")

    def rights(self, role: str) -> Rights:
        """Return what a user may do in this store.

        Raises:
            ConfigError: gameday.toml doesn't say how that is changed.
        """
        config = self.component(role).rights
        if config is None:
            raise ConfigError(
                f"component {role!r} has no rights. Remedy: components.{role}.rights in gameday.toml, if it is a store"
            )
        return self._driver(f"components.{role}", "rights", config, "Rights")

    def runbook(self, test: str) -> Path:
        """Return the path of the test's runbook."""
        return ROOT / runbook_of(str(self._runbooks), test)

    @property
    def runbooks_shown(self) -> str:
        """The runbooks' folder as it is shown to people: relative to the checkout, if it lies there."""
        folder = self._runbooks
        return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)

    @property
    def _runbooks(self) -> Path:
        config = self.config.runbook
        return placed(None if config is None else config.folder, self.path, RUNBOOKS)

    # ---- the streams ---------------------------------------------------------------------------------------

    @cached_property
    def streams(self) -> Mapping[str, LiveStream]:
        """The streams by name."""
        return {name: LiveStream(stream, self.hop) for name, stream in self.config.declared.items()}

    def stream_of(self, hop: str) -> LiveStream:
        """Return the stream that a hop holds. Each hop holds exactly one."""
        if hop == ARCHIVE and self.config.archived is not None:
            return self.streams[self.config.archived]
        return next(live for live in self.streams.values() if hop in live.stream.hops)

    @property
    def hops(self) -> Mapping[str, Hop]:
        """The hops of all streams by name, those of a stream in its order."""
        return {name: hop for live in self.streams.values() for name, hop in live.hops.items()}

    def hop(self, name: str) -> Hop:
        """Return a hop, made on first use, so that nobody needs the clients of other hops."""
        if name not in self._hops:
            declared = self.config.declared.values()
            stream = next(stream for stream in declared if name in stream.hops)
            told = {"name": name, "stream": stream, "state": self.state}
            made = self._driver("hops", name, self.config.hops[name], "Hop", **told)
            if stream.keyed:
                self._date(made, name, stream)
            self._hops.setdefault(name, made)
        return self._hops[name]

    def _date(self, made: Any, name: str, stream: Stream) -> None:
        """Tell a hop of a stream whose records have no time where it finds their times.

        Raises:
            ConfigError: the hop can't use another hop's times.
        """
        at, first = f"streams.{stream.name}", stream.hops[0]
        remedy = f"Remedy: {at}.sequence or {at}.time, a field that each of its hops has"
        if name == first and not isinstance(made, Arrivals):
            raise ConfigError(
                f"{at} has neither sequence nor time, so its first hop must be a log, which tells when each record "
                f"came; {name} is none. {remedy}"
            )
        if name != first and not isinstance(made, Dated):
            raise ConfigError(
                f"{at} has neither sequence nor time, so that nothing tells the newest records of {name}, nor those of "
                f"a window: its driver {self.config.hops[name].driver!r} can't ask {first} for them. {remedy}"
            )
        if name != first:
            made.arrivals = self.hop(first)

    @cached_property
    def canary(self) -> Canary | None:
        """The writer of gameday's own records; None: the stack has no [canary]."""
        config = self.config.canary
        return None if config is None else self._writer("driver", config, config.timeout_s)

    @cached_property
    def canary_clean_up(self) -> Canary | None:
        """The writer that takes the canary's records away after a run; None: there is none."""
        config = self.config.canary
        if config is None or config.clean_up is None:
            return None
        return self._writer("clean_up", config.clean_up, config.timeout_s)

    def _writer(self, key: str, config: configuration.DriverConfig, timeout_s: float) -> Canary:
        made: Canary = self._driver(configuration.CANARY, key, config, "Canary", timeout_s=timeout_s)
        return made

    @cached_property
    def cursors(self) -> Mapping[str, Cursor]:
        return {name: self.cursor(name) for name in self.config.cursors}

    def cursor(self, name: str) -> Cursor:
        """Return a cursor, even if others can't be made."""
        made: Cursor = self._driver("cursors", name, self.config.cursors[name], "Cursor")
        return made

    @cached_property
    def jobs(self) -> Mapping[str, Job]:
        return {name: self._driver("jobs", name, c, "Job") for name, c in self.config.jobs.items()}

    def job(self, name: str) -> Job:
        """Return a batch job of the platform.

        Raises:
            ConfigError: there is no such job; the text has similar names.
        """
        if name not in self.jobs:
            raise ConfigError(f"stack {self.name} has no job {name!r}. {near(name, self.jobs)}")
        return self.jobs[name]

    @cached_property
    def accounts(self) -> Mapping[str, Account]:
        """What others know of a run, by name."""
        return {name: self._driver("accounts", name, c, "Account") for name, c in self.config.accounts.items()}

    @cached_property
    def contract(self) -> Contract | None:
        """The contract of the platform's own metrics; None: it has none."""
        config = self.config.contract
        return None if config is None else read_contract(placed(config.file, self.path, ""))

    @cached_property
    def archive(self) -> Archive | None:
        """The table that a stream is exported to; None: there is none. Its hop's name is "archive"."""
        config, exported = self.config.archive, self.config.archived
        if config is None or exported is None:
            return None
        stream = self.config.declared[exported]
        return self._driver("archive", "table", config.table, "Archive", name=ARCHIVE, stream=stream)

    @cached_property
    def mirror(self) -> Mirror | None:
        """The place where the archive's job shows its position to people; None: there is none."""
        config = self.config.archive.mirror if self.config.archive else None
        return None if config is None else self._driver("archive", "mirror", config, "Mirror")

    def run_points(self, folder: str) -> Points:
        """Return the failpoints of a single run of a job; its socket and evidence are in this folder."""
        settings = {"driver": "failpoints", "socket": f"{folder}/socket", "evidence": f"{folder}/evidence"}
        return self._driver("strike", "points", configuration.DriverConfig.model_validate(settings), "Points")

    @cached_property
    def alerts(self) -> Alerts | None:
        """The platform's own alerts; None: the stack has none."""
        config = self.config.alerts
        if config is None or not config.url:
            return None
        return self._driver("alerts", "driver", config, "Alerts", url=config.url, timeout_s=config.timeout_s)

    def alert_name(self, alert: str) -> str:
        """Return this stack's name for an alert that a failure test names."""
        return self.config.alerts.names.get(alert, alert) if self.config.alerts else alert

    def alert_labels(self, role: str) -> Mapping[str, str]:
        """Return the labels of this component's alerts."""
        known = self.config.alerts.labels if self.config.alerts else {}
        return known.get(role) or known.get(self.config.together(role) or role, {"component": role})

    def firing(self) -> list[str]:
        """Return the alerts of the stack's components that fire, in words; [] also if the alerts can't be asked."""
        if self.alerts is None:
            return []
        roles = {role: self.alert_labels(role).items() for role in self.config.components}
        return [
            f"{alert} of {role}"
            for alert, labels in self.alerts.firing()
            for role, wanted in roles.items()
            if wanted <= labels.items()
        ]

    def export(self) -> tuple[Archive, Job]:
        """Return the archive and the job that fills it.

        Raises:
            GamedayError: the stack has no archive.
        """
        if self.archive is None or self.config.archive is None:
            raise GamedayError(f"stack {self.name} has no archive. Remedy: describe it under [archive] in gameday.toml")
        return self.archive, self.jobs[self.config.archive.job]

    def own_probes(self, role: str) -> Mapping[str, Probe]:
        """Return the component's probes by name. They ask from where gameday is: an answer to a command that runs
        inside the component doesn't show that it serves."""
        return {
            name: self._driver(f"components.{role}.probes", name, p, "Probe", timeout_s=p.timeout_s)
            for name, p in self.component(role).probes.items()
        }

    # ---- what the sampler asks -----------------------------------------------------------------------------

    def shards(self) -> dict[str, Shards]:
        """Return stream -> how its groups are sampled together, for the streams that have many groups now. A stream
        whose ledger doesn't answer is left out."""
        found = {}
        for name, live in self.streams.items():
            with suppress(DriverError):
                if (shards := sharding(live.ledger.heads(), live.stream.way)) is not None:
                    found[name] = shards
        return found

    def probes(
        self,
        archive: bool = False,
        alert: tuple[str, str] | None = None,
        shards: Mapping[str, Shards] = {},
    ) -> Iterator[ProbeSpec]:
        """Yield what the sampler asks: every component's probes, the heads of each stream's ledger and visible hop, the
        cursors, and the watches. See model.Samples for the series.

        Args:
            archive: whether to ask the archive and its mirror too, which cost much.
            alert: a component's alert to ask for too.
            shards: the streams whose groups are sampled together.
        """
        for role in self.config.components:
            yield from self.component_probes(role)
        for name, live in self.streams.items():
            bases = Bases(shards[name], live.ledger, self.hop(live.stream.visible)) if name in shards else None
            for hop in (live.stream.hops[0], live.stream.visible):
                heads = Heads(self.hop(hop)) if bases is None else Sharded(self.hop(hop), bases)
                yield ProbeSpec(f"head/{hop}", heads, 20.0, 1.0)
        for name, cursor in self.cursors.items():
            yield ProbeSpec(f"end/{name}", Slots(cursor.end), 10.0, 1.0)
            yield ProbeSpec(f"position/{name}", Slots(cursor.position), 10.0, 1.0)
        if archive and self.archive is not None:
            yield ProbeSpec("archive", self.archive, ARCHIVE_RATE_HZ, 2.0)
        if archive and self.mirror is not None:
            yield ProbeSpec("mirror", Slots(self.mirror.position), MIRROR_RATE_HZ, 2.0)
        if alert is not None and self.alerts is not None and self.config.alerts is not None:
            name, role = alert
            asked = AlertState(self.alerts, self.alert_name(name), self.alert_labels(role))
            yield ProbeSpec(f"alert/{name}", asked, self.config.alerts.rate_hz, self.config.alerts.timeout_s)
        yield from self._scrapes()
        for name, p in self.config.watches.items():
            yield ProbeSpec(
                name, self._driver("watches", name, p, "Probe", timeout_s=p.timeout_s), p.rate_hz, p.timeout_s
            )

    def _scrapes(self) -> Iterator[ProbeSpec]:
        """What the platform's programs tell of themselves, where a contract says what that must be."""
        config, contract = self.config.contract, self.contract
        if config is None or contract is None:
            return
        for name, url in config.scrapes.items():
            told = configuration.DriverConfig(driver="openmetrics", url=url, prefixes=contract.prefixes)  # type: ignore[call-arg]
            probe = self._driver("contract.scrapes", name, told, "Probe", timeout_s=config.timeout_s)
            yield ProbeSpec(f"metrics/{name}", probe, config.rate_hz, config.timeout_s)

    def component_probes(self, role: str) -> Iterator[ProbeSpec]:
        """Yield the probes of one component."""
        for name, p in self.component(role).probes.items():
            probe = self._driver(f"components.{role}.probes", name, p, "Probe", timeout_s=p.timeout_s)
            host: object = self.host(role) if p.inside else None
            if isinstance(host, Inside):
                probe = OrInside(probe, host, role, p.inside, p.timeout_s)
            port, holder = port_of(p.settings), self._holder(role)
            if port is not None and holder is not None:
                probe = OfItsOwn(probe, holder, role, port)
            yield ProbeSpec(f"component/{role}/{name}", probe, p.rate_hz, p.timeout_s)

    def _holder(self, role: str) -> Holds | None:
        """Return the component's host, if it can tell which process holds a port. A component that is only looked at
        needs no host."""
        try:
            host: object = self.host(role)
        except GamedayError:
            return None
        return host if isinstance(host, Holds) else None

    def stops(self) -> list[Stop]:
        """Return the stack's own bounds, which end any run that crosses one. They are made anew for each caller,
        because each remembers what it has seen."""
        return [self.stop(name) for name in self.config.stops]

    def stop(self, name: str) -> Stop:
        """Return one of these bounds, made anew."""
        config = self.config.stops[name]
        return Stop(name, self._driver("stops", name, config, "Probe", timeout_s=config.timeout_s), config)

    # ---- who is told ---------------------------------------------------------------------------------------

    def channel(self, name: str, secret: Callable[[str], str]) -> Channel:
        """Return a channel. secret: takes a block's name and returns its value; it is only called for blocks that
        gameday.toml refers to."""
        config = self.config.channels[name]
        opened = revealed(config.settings, secret, f"channels.{name}")
        return self._driver("channels", name, configuration.DriverConfig(driver=config.driver, **opened), "Channel")

    def channel_takes(self, name: str) -> frozenset[str]:
        """Return the kinds of message that a channel takes. The channel is not made for that, so its secrets may be
        missing."""
        return driver_class(self.config.channels[name].driver, "Channel", f"channels.{name}").takes

    def _driver(self, section: str, key: str, config: configuration.DriverConfig, offers: str, **more: Any) -> Any:
        """What the class has a field for, of `more`, besides its settings."""
        where = f"{section}.{key}"
        made = driver_class(config.driver, offers, where)
        taken = {field.name for field in dataclasses.fields(made)}
        given = {name: value for name, value in more.items() if name in taken}
        return build(made, {**config.settings, **given}, where)


def open_stack(path: Path | None = None, state: State | None = None) -> Stack:
    """Read the configuration and make the live stack. From then on, modules beside gameday.toml can be imported."""
    state = state or State.default()
    stack = Stack(load(path, state), state, path)
    importable(stack.path)
    return stack
