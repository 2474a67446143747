"""What a record is, and how engines that hold it agree on it without moving it: types, their canonical forms, the hash.

types.py says what fits a type; hashing.py makes 64-bit numbers of it in numpy; in_clickhouse.py and in_postgres.py have
the same as SQL; tallies.py adds them up. What a difference means is checks/'s.
"""
