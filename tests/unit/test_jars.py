"""Jars come as their lock file lists them, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from compose.servers.jars import Jars
from gameday.errors import GamedayError


def test_a_jar_with_wrong_content_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file is replaced, a missing one fetched, the right ones are left alone; a wrong source is refused."""
    source = tmp_path / "repository"
    lines = []
    for name in ("a", "b", "c"):
        jar = source / "org" / name / f"{name}.jar"
        jar.parent.mkdir(parents=True)
        jar.write_bytes(name.encode() * 1000)
        lines.append(f"org/{name}/{name}.jar {hashlib.sha256(jar.read_bytes()).hexdigest()} 1000\n")
    lock, folder = tmp_path / "lock", tmp_path / "jars"
    lock.write_text("".join(lines))
    jars = Jars("they", lock, folder)
    monkeypatch.setenv("M2_REPO", str(source))
    said: list[str] = []
    jars.fetch(said.append)
    kept = (folder / "a.jar").stat().st_mtime_ns
    (folder / "b.jar").write_bytes(b"x" * 1000)
    (folder / "c.jar").unlink()
    jars.fetch(said.append)
    assert [(folder / f"{n}.jar").read_bytes() for n in "abc"] == [n.encode() * 1000 for n in "abc"]
    assert (folder / "a.jar").stat().st_mtime_ns == kept
    done = len(said)
    jars.fetch(said.append)
    assert len(said) == done

    settings = tmp_path / ".m2" / "settings.xml"
    settings.parent.mkdir()
    settings.write_text(
        "<settings xmlns='x'><mirrors><mirror><mirrorOf>*</mirrorOf>"
        f"<url>{source.as_uri()}/</url></mirror></mirrors></settings>"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))
    (source / "org" / "c" / "c.jar").write_bytes(b"evil")
    (folder / "b.jar").unlink()
    (folder / "c.jar").unlink()
    with pytest.raises(GamedayError, match=r"org/c/c\.jar from .* has sha256"):
        jars.fetch(said.append)
    assert not (folder / "c.jar").exists()
