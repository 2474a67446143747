"""An offload that reads every copy of a trade that was sent again."""

import sys

from pipelines.trades.offload import silver
from pipelines.trades.offload.__main__ import main

silver.KEPT = f"(SELECT *, fromUnixTimestamp64Micro(exchange_us, 'UTC') AS exchange_time FROM {silver.RAW})"

if __name__ == "__main__":
    sys.exit(main())
