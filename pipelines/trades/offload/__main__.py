"""The offload as a plain process; settings come from the environment (settings.py). Exit 1: failed, 2: settings."""

from __future__ import annotations

import argparse
import os
import sys

import failpoints
from pipelines.trades.lines import log_json
from pipelines.trades.offload.settings import ConfigError, OffloadError, Settings


def main() -> int:
    """Do one thing and end."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.trades.offload", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prepare", action="store_true", help="make the tables in the catalog and in Postgres")
    what.add_argument("--once", action="store_true", help="move what there is")
    what.add_argument("--maintain", action="store_true", help="expire snapshots, sweep orphans")
    options = parser.parse_args()
    log_json()
    try:
        settings = Settings.of(os.environ)
        from pipelines.trades.offload import engine, maintenance  # seconds of imports: only with good settings

        failpoints.listen()
        if options.prepare:
            engine.prepare(settings)
        elif options.once:
            engine.run(settings)
        else:
            maintenance.run(settings)
    except OffloadError as e:
        sys.stderr.write(f"offload: {e}\n")
        return 2 if isinstance(e, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
