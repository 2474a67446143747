"""An offload that commits its position before its rows: what a crash takes between the two is never moved."""

import sys
from typing import Any

from pipelines.trades.offload import lake
from pipelines.trades.offload.__main__ import main

append = lake.Lake.append


def position_first(self: Any, table: Any, rows: Any, before: Any, end: Any, run_id: str) -> Any:
    """In place of one commit: one with the position, and one with the rows."""
    told = append(self, table, rows.slice(0, 0), before, end, run_id)
    return told and append(self, self.load(), rows, told, end, run_id)


lake.Lake.append = position_first  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
