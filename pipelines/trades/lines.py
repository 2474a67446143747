"""What every process of the pipeline logs: one JSON object a line, on stdout."""

import structlog

__all__ = ["log_json"]


def log_json() -> None:
    """Configure structlog so; once, before the first line."""
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.add_log_level,
            structlog.processors.JSONRenderer(),
        ]
    )
