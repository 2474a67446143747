"""Planted defects of a sink. SINK_DEFECT names one, to show that gameday finds it. None is on by default."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DEFECTS"]

DEFECTS: Mapping[str, str] = {
    "position_first": "the place in the log is committed before the rows",
    "position_apart": "rows are committed first, their place in another transaction",
    "no_guard": "what comes again is applied again, and an older row replaces a newer one",
    "insert_only": "a row that is there already is left as it is",
    "oldest_in_batch": "of a row that changes several times in a batch the first change is applied",
    "log_errors": "a row that is refused is logged and counted as processed",
    "drop_batch": "a row that is refused takes its batch with it",
    "dead_letter_apart": "dead letters are written in a transaction of their own, behind the place in the log",
    "ignore_delete": "deletions are passed over",
    "delete_by_tombstone": "a message without a value deletes, and the deletion before it is passed over",
    "write_placeholder": "what stands for a large value that was not sent is written in its place",
    "keep_absent": "a column that a message hasn't got keeps its old value",
    "ignore_new_column": "a column that the target hasn't got is passed over",
    "float_amount": "amounts go through a float",
    "zone_slip": "times are read as if they were of another zone",
    "null_as_empty": "a NULL becomes an empty text",
    "cut_text": "large texts are cut",
    "keep_old_key": "a row whose key has changed stays there under the old one too",
    "ignore_truncate": "a TRUNCATE is passed over",
    "no_sweep": "rows that a snapshot has not read stay",
    "sweep_too_high": "a snapshot removes also what it has read",
    "reset_earliest": "where the log was cut, it goes on at its first message",
    "reset_latest": "where the log was cut, it goes on at its end",
    "no_fence": "the place in the log is written whoever has moved it",
    "no_history_key": "nothing tells a change that comes again: the history takes it twice",
    "autocommit": "each statement of a batch is committed by itself",
    "retry_blind": "a batch whose commit got no answer is applied again",
    "by_business_time": "a change whose time is older than the newest one seen is taken for a repeat",
    "drop_after_pause": "what waited while it stood still is passed over",
    "swap_rows": "one row is left out and a deleted one stays: a count of rows sees nothing",
}
"""Name -> what the sink does wrong."""
