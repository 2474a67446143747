"""Sets up the log of every process of the pipeline: one JSON object per line, on stdout."""

import structlog

__all__ = ["log_json"]


def log_json() -> None:
    """Configure structlog; call this once, before the first line."""
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.add_log_level,
            structlog.processors.JSONRenderer(),
        ]
    )
