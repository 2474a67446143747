-- The nights that were completed: every failure test, to the end, without an interrupt. Who watches gameday asks how long that is ago.
CREATE TABLE nights (
    id    text PRIMARY KEY,
    stack text NOT NULL,
    ended timestamptz NOT NULL
);

CREATE INDEX nights_by_time ON nights (stack, ended DESC);
