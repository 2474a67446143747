"""Finds what is wrong with a gameday.toml beyond the types of its values: names that refer to nothing, streams and hops
that don't fit each other, a canary whose records could not be found again. Each mistake is one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gameday.records import attempts, declaration
from gameday.records.attempts import Attempt
from gameday.records.declaration import Stream
from gameday.records.types import Malformed
from gameday.stack.config import ARCHIVED, CANARY, CanaryConfig, StackConfig, StreamConfig
from gameday.stack.variables import VARIABLE
from gameday.system import tls

__all__ = ["cross_check", "declared", "files"]

SAMPLE_UUID = "6f1c0a52-3f0e-4a8e-9d55-0d8a3c2b7e11"


def declared(filled: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the declarations of streams and what hops say of them, whatever else is wrong."""
    found: list[str] = []
    streams, hops = filled.get("streams"), filled.get("hops")
    hops = hops if isinstance(hops, dict) else {}
    tables: dict[str, dict[str, Any]] = {}
    for name, given in streams.items() if isinstance(streams, dict) else ():
        try:
            tables[name] = StreamConfig.model_validate(given).model_dump()
        except ValidationError:
            continue  # told as such
    known = {name: declaration.stream(name, table, list(hops), found) for name, table in tables.items()}
    for hop, given in hops.items():
        if "/" in hop or hop == ARCHIVED:
            found.append(f"hops.{hop} can't be called so. Remedy: another name than {ARCHIVED}, without /")
        named = [name for name, table in tables.items() if hop in table["hops"]]
        if len(named) > 1:
            found.append(
                f"hops.{hop} is named by {' and '.join(f'streams.{name}.hops' for name in named)}, but a hop holds one "
                f"stream. Remedy: a [hops.NAME] for each, such as [hops.{named[1]}-{hop}] for {named[1]}"
            )
        elif isinstance(given, dict) and hop != CANARY:
            found += declaration.hop_mistakes(hop, given, known[named[0]] if named else None)
    if isinstance(filled.get(CANARY), dict):
        found += _canary_mistakes(filled[CANARY], tables, known)
    return found


def _canary_mistakes(
    filled: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], known: Mapping[str, Stream | None]
) -> list[str]:
    """Return what is wrong with [canary], beyond the types of its values."""
    try:
        config = CanaryConfig.model_validate(filled)
    except ValidationError:
        return []  # told as such
    texts = list(_texts(config.settings))
    found = [
        f"canary has {{{name}}}, which stands for nothing. Remedy: one of {{{'}, {'.join(attempts.NAMES)}}}"
        for name in dict.fromkeys(n for text in (*texts, *config.fields.values()) for n in attempts.misnamed(text))
    ]
    if config.clean_up is not None:
        found += [
            f"canary.clean_up has {{{name}}}, but it is sent once for all records. Remedy: a condition on the prefix"
            for text in _texts(config.clean_up.settings)
            for name in attempts.named(text)
            if name in attempts.NAMES
        ]
    named = [name for name, table in tables.items() if CANARY in table["hops"]]
    if not named:
        return [*found, 'canary is there, but no stream has it. Remedy: streams.NAME.hops = ["canary", …]']
    at, stream = f"streams.{named[0]}", known[named[0]]
    if tables[named[0]]["hops"][0] != CANARY:
        found.append(f"{at}.hops has {CANARY!r} in another place than the first. Remedy: put it first")
    if tables[named[0]]["gapless"]:
        found.append(f"{at}.gapless is true, but a number whose attempt is refused is left out. Remedy: leave it out")
    if stream is None:
        return found
    if stream.placed:
        found.append(f"{at} has no key, but canary writes records, not places in a log. Remedy: {at}.key")
        return found
    if stream.keyed:
        found.append(f"{at} has no sequence, but canary counts its records. Remedy: {at}.sequence, a field with {{n}}")
        return found
    templates = attempts.templates(stream, config.fields)
    found += [
        f"canary.fields has {name!r}, which {at} has not. Remedy: one of {', '.join(stream.types)}"
        for name in config.fields
        if name not in stream.types
    ]
    found += [
        f"canary.fields lacks {name!r}. Remedy: the value that the record has there, such as "
        f'canary.fields.{name} = "…", or leave it out of {at}.fields'
        for name in stream.types
        if name not in templates
    ]
    used = {name: attempts.named(template) for name, template in templates.items()}
    written = {name for text in texts for name in attempts.named(text)}
    written |= attempts.MOMENT if written & attempts.MOMENT else set()
    found += [
        f"canary.fields.{field} is {templates[field]!r}, but nothing that is written has {{{name}}}. Remedy: put it "
        "into the template"
        for field, names in used.items()
        for name in names
        if name in attempts.NAMES and name not in written
    ]
    if not any(set(used.get(field, ())) & {"n", "key", "uuid"} for field in stream.own):
        found.append(f"canary.fields gives {at}.key the same in each record. Remedy: {{n}}, {{key}} or {{uuid}}")
    grouped = any("group" in used.get(field, ()) for field in stream.group)
    if grouped and not config.groups:
        found.append('canary.groups is missing, but fields has {group}. Remedy: its texts, such as ["gameday"]')
    if config.groups and not grouped:
        found.append(
            f"canary.groups is {list(config.groups)}, but no field of {at}.group has {{group}}. Remedy: leave groups "
            f"out, or a field in {at}.group"
        )
    if len(set(config.groups)) < len(config.groups):
        found.append(f"canary.groups is {list(config.groups)}. Remedy: each once")
    sample = attempts.values(Attempt(1, (config.groups or ("",))[0], SAMPLE_UUID, 1_795_000_000_123_456), config.prefix)
    for name, template in templates.items():
        try:
            stream.types[name].canonical(attempts.filled(template, sample))
        except Malformed as e:
            found.append(f"canary.fields.{name} is {template!r}: {e}. Remedy: a value that {at}.fields.{name} takes")
    return found


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a driver's settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def files(value: Any, at: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with the TLS files that tables with a driver or an address name."""
    if not isinstance(value, dict):
        return []
    found = [mistake for key, inner in value.items() for mistake in files(inner, (*at, str(key)))]
    texts = [text for text in value.values() if isinstance(text, str)]
    if "driver" in value or any(text.startswith(("http://", "https://")) for text in texts):
        ready = {key: text for key, text in value.items() if not isinstance(text, str) or not VARIABLE.search(text)}
        found += tls.mistakes(".".join(at), ready)
    return found


def cross_check(config: StackConfig) -> list[str]:
    """Return one sentence for each name that refers to something that doesn't exist."""
    found = []
    for kind, placed in (("components", config.components), ("links", config.links)):
        for name, one in placed.items():
            if one.host not in config.hosts:
                found.append(
                    f"{kind}.{name}.host is {one.host!r}, but there is no [hosts.{one.host}]. "
                    f"Known: {', '.join(config.hosts)}"
                )
    if (archive := config.archive) is not None:
        for key, name, section in (("job", archive.job, config.jobs), ("worker", archive.worker, config.components)):
            if name not in section:
                found.append(f"archive.{key} is {name!r}. Known: {', '.join(section) or 'none'}")
        several = archive.stream is None and len(config.streams) > 1
        if several or (archive.stream is not None and archive.stream not in config.streams):
            given = "missing" if archive.stream is None else repr(archive.stream)
            found.append(f"archive.stream is {given}. Remedy: which stream is exported: {', '.join(config.streams)}")
        elif (exported := config.archived) is not None and CANARY in config.streams[exported].hops:
            found.append(
                f"archive.stream is {exported!r}, the canary's. Remedy: a stream of the platform's own records"
            )
        elif (exported := config.archived) is not None and config.streams[exported].sequence is None:
            found.append(
                f"archive is there, but streams.{exported} has no sequence, by which commits are told apart. Remedy: "
                f"streams.{exported}.sequence, or leave [archive] out"
            )
    known = {**config.components, **config.roles}
    for name in config.alerts.labels if config.alerts else ():
        if name not in known:
            found.append(_no_component(f"alerts.labels names {name!r}", name, config))
    kinds = {config.kind(name) for name in known}
    for name in config.alerts.roles if config.alerts else ():
        if name not in kinds:
            found.append(f"alerts.roles.{name}: no component has that role. Known: {', '.join(sorted(kinds))}")
    for name, cursor in config.cursors.items():
        if cursor.component is not None and cursor.component not in known:
            at = f"cursors.{name}.component"
            found.append(_no_component(f"{at} is {cursor.component!r}", cursor.component, config))
    for name, role in config.roles.items():
        for member in role.members:
            if member not in config.components:
                found.append(_no_component(f"components.{name}.members names {member!r}", member, config))
            elif config.together(member) != name or role.members.count(member) > 1:
                found.append(f"{member!r} is a member twice. Remedy: once in one components.NAME.members")
    for name, link in config.links.items():
        for end in link.between:
            if end in config.roles:
                members = ", ".join(config.members(end))
                found.append(f"links.{name}.between names {end!r}, which has members. Remedy: one of {members}")
            elif end not in config.components:
                found.append(_no_component(f"links.{name}.between names {end!r}", end, config))
    for name, stream in config.streams.items():
        for step in stream.path:
            if "{" not in step and step not in known:
                found.append(_no_component(f"streams.{name}.path has {step!r}", step, config))
    return found


def _no_component(what: str, name: str, config: StackConfig) -> str:
    return f"{what}, but there is no [components.{name}]. Known: {', '.join([*config.components, *config.roles])}"
