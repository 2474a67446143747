"""A feed handler that rounds prices to whole units."""

import sys
from decimal import Decimal

from pipelines.trades import handler, topic
from pipelines.trades.venues import Trade


def rounded(venue: str, trade: Trade, received_us: int) -> bytes:
    """The message with its price rounded."""
    return topic.record(venue, trade._replace(price=str(round(Decimal(trade.price)))), received_us)


handler.record = rounded  # type: ignore[attr-defined]
sys.exit(handler.main())
