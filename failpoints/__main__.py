"""`python -m failpoints demo`: three faults in a save that should survive anything."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from failpoints import listen, point, scenario

WRITE = point("demo::after_write", "the new file is written, and not yet in its place")


def save(path: Path, text: str) -> None:
    """Write the whole file or nothing. The demo shows whether it does."""
    part = path.with_suffix(".part")
    part.write_text(text)
    if WRITE.on is not None:
        WRITE()
    part.replace(path)


def demo(folder: Path) -> None:
    """Fail the third save; kill a process in the middle of one, once; show what each left."""
    path, evidence = folder / "state", folder / "evidence.jsonl"
    print("1. demo::after_write=3@raise(OSError: disk full): exactly the third save fails")
    with scenario("demo::after_write=3@raise(OSError: disk full)") as s:
        for text in ("one", "two", "three"):
            try:
                save(path, text)
            except OSError as e:
                print(f"   save({text!r}) raised {e!r}; the file still says {path.read_text()!r}")
        s["demo::after_write"].assert_fired(1)

    print("2. demo::after_write=1*kill[global]: a process dies in the middle of a save, its restart does not")
    environment = {
        **os.environ,
        "FAILPOINTS_ENABLE": "1",
        "FAILPOINTS": "demo::after_write=1*kill[global]",
        "FAILPOINTS_EVIDENCE": str(evidence),
        "FAILPOINTS_CLAIMS": str(folder / "claims"),
        "FAILPOINTS_RUN": "demo-1",
    }
    for attempt in ("the process", "its restart"):
        done = subprocess.run([sys.executable, "-m", "failpoints", "save", str(path), "four"], env=environment)
        print(f"   {attempt} ended with {done.returncode}; the file says {path.read_text()!r}")

    print("3. the evidence, written before the action:")
    print("   " + evidence.read_text().rstrip())


def main() -> None:
    """demo, or (what the demo starts) save FILE TEXT."""
    parser = argparse.ArgumentParser(prog="python -m failpoints", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("demo")
    saving = verbs.add_parser("save")
    saving.add_argument("file", type=Path)
    saving.add_argument("text")
    wanted = parser.parse_args()
    if wanted.verb == "save":
        listen()
        save(wanted.file, wanted.text)
        return
    with tempfile.TemporaryDirectory() as folder:
        demo(Path(folder))


if __name__ == "__main__":
    main()
