-- Every run of a failure test, and what each did to its stack. `result` and `act` are the whole records, as results.json has them;
-- the other columns are there to be searched.
CREATE TABLE runs (
    id       text PRIMARY KEY,
    night    text NOT NULL,
    test     text NOT NULL,
    params   jsonb NOT NULL,
    stack    text NOT NULL,
    started  timestamptz NOT NULL,
    verdict  text NOT NULL CHECK (verdict IN ('pass', 'skipped', 'unknown', 'invalid', 'fail')),
    why      text NOT NULL,
    measures jsonb NOT NULL,
    result   jsonb NOT NULL
);

CREATE INDEX runs_by_test ON runs (test, params, stack, started DESC);
CREATE INDEX runs_by_time ON runs (started DESC);

CREATE TABLE acts (
    run  text NOT NULL REFERENCES runs ON DELETE CASCADE,
    id   text NOT NULL,
    at   timestamptz NOT NULL,
    kind text NOT NULL,
    act  jsonb NOT NULL,
    PRIMARY KEY (run, id)
);
