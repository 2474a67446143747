"""A bookshop's till: `python -m tests.docker.foreign.till DSN` places orders, changes them, and deletes old ones, eight
changes a second."""

from __future__ import annotations

import random
import sys
import threading
from uuid import UUID

import psycopg

RATE_HZ = 8.0
KEPT = 60
STATES = ("placed", "paid", "packed", "sent")
CONNECT_S = 5
AGAIN_AFTER_S = 1.0

PLACE = "INSERT INTO orders VALUES (%s, %s, 'placed', %s, %s, 1, clock_timestamp())"
CHANGE = "UPDATE orders SET status = %s, note = %s, version = version + 1, updated_at = clock_timestamp() WHERE id = %s"
DELETE = "DELETE FROM orders WHERE id = %s"


def change(connection: psycopg.Connection, chance: random.Random, open_orders: list[UUID]) -> None:
    """One of the three, of the orders that this till has placed."""
    kind = chance.random()
    if kind < 0.3 or len(open_orders) < KEPT // 2:
        who = UUID(int=chance.getrandbits(128), version=4)
        total = f"{chance.randrange(500, 9000) / 100:.2f}"
        note = chance.choice((None, "gift", "by noon"))
        connection.execute(PLACE, (who, f"c-{chance.randrange(40)}", total, note))
        open_orders.append(who)
    elif kind > 0.8 or len(open_orders) > KEPT:
        connection.execute(DELETE, (open_orders.pop(0),))
    else:
        what = (chance.choice(STATES), chance.choice((None, "gift", "rings twice")), chance.choice(open_orders))
        connection.execute(CHANGE, what)


def main() -> None:
    """Until it is killed. A database that is away is asked again."""
    chance = random.SystemRandom()
    open_orders: list[UUID] = []
    while True:
        try:
            with psycopg.connect(sys.argv[1], autocommit=True, connect_timeout=CONNECT_S) as connection:
                while True:
                    change(connection, chance, open_orders)
                    threading.Event().wait(1 / RATE_HZ)
        except psycopg.OperationalError as e:
            print(e, file=sys.stderr, flush=True)
            threading.Event().wait(AGAIN_AFTER_S)


if __name__ == "__main__":
    main()
