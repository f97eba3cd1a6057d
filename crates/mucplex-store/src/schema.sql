-- Format 1. Times are milliseconds since 1970; an account's `seen` is in days.

CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    jid TEXT NOT NULL UNIQUE,
    seen INTEGER NOT NULL
) STRICT;

CREATE TABLE room (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    jid TEXT NOT NULL,
    nick TEXT NOT NULL,
    sent_presence BLOB NOT NULL,
    own_presence BLOB,
    room_presence BLOB,
    subject BLOB,
    password TEXT,
    carrier TEXT,
    non_anonymous INTEGER NOT NULL,
    logged INTEGER NOT NULL,
    reflects_join_id INTEGER NOT NULL,
    nick_assigned INTEGER NOT NULL,
    spoken INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    unsettled INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    detached_since INTEGER,
    UNIQUE (account, jid)
) STRICT;

CREATE TABLE occupant (
    room INTEGER NOT NULL REFERENCES room ON DELETE CASCADE,
    nick TEXT NOT NULL,
    position INTEGER NOT NULL,
    presence BLOB NOT NULL,
    PRIMARY KEY (room, nick)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room ON DELETE CASCADE,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    stamped INTEGER NOT NULL,
    stanza BLOB NOT NULL,
    UNIQUE (room, number)
) STRICT;

CREATE INDEX message_at ON message (at);

CREATE TABLE served (
    room INTEGER NOT NULL REFERENCES room ON DELETE CASCADE,
    resource TEXT NOT NULL,
    number INTEGER,
    joined INTEGER NOT NULL,
    replay INTEGER NOT NULL,
    before INTEGER,
    at INTEGER NOT NULL,
    PRIMARY KEY (room, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE anchor (
    account INTEGER PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    domain TEXT NOT NULL,
    jid TEXT NOT NULL,
    previd TEXT NOT NULL,
    location TEXT,
    h_in INTEGER NOT NULL,
    max INTEGER,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE sealed_key (
    account INTEGER PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE push (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    resource TEXT NOT NULL,
    service TEXT NOT NULL,
    node TEXT NOT NULL,
    form BLOB NOT NULL,
    PRIMARY KEY (account, resource, service, node)
) STRICT, WITHOUT ROWID;
