"""Planted defects of a router, its caller or its worker. ROUTER_DEFECT names one, to show that gameday finds it. None
is on by default."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.router import metrics

__all__ = ["DEFECTS"]

DEFECTS: Mapping[str, str] = {
    "ack_first": "a request is acknowledged before its decision is published",
    "publish_unawaited": "a decision is sent without waiting for the broker, and the request acknowledged at once",
    "fail_open": "a decision that could not be published counts as published",
    "new_id": "the caller publishes again what got no answer, under a new id",
    "forget_after_reconnect": "who was cut off from the broker connects again, and asks for nothing any more",
    "short_wait": "the broker waits for an answer for a second, and some requests take longer",
    "nak_loop": "a request that can't be handled is handed back at once, without an end",
    "no_dead_letter": "a request that can't be handled is handed back again and again, however often it came",
    "drop_exhausted": "a request that can't be handled is acknowledged in silence at its last delivery",
    "dead_without_reason": "a dead letter does not say why",
    "dead_after_ack": "a dead letter is written after the request is acknowledged",
    "poison_blocks": "a request that can't be handled is tried again in place, and all behind it wait",
    "not_idempotent": "the worker carries out a decision each time that it is handed out",
    **{name: f"metrics: {about}" for name, about in metrics.DEFECTS.items()},
}
"""Name -> what the program does wrong."""
