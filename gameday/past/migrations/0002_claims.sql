-- Who holds a stack on which several machines may act; no run: nobody. `token` grows with every owner, so that one who was displaced can
-- tell. `place` says where the owner runs, `guardian` which process it is there.
CREATE TABLE claims (
    stack    text PRIMARY KEY,
    token    bigint NOT NULL,
    run      text,
    test     text,
    place    jsonb,
    guardian jsonb,
    since    timestamptz,
    until    timestamptz
);
