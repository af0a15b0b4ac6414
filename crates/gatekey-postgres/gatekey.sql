-- The tables of the logs of gatekey's fleets. Config::create_schema runs this.
CREATE SCHEMA IF NOT EXISTS gatekey;

-- One row for each log.
CREATE TABLE IF NOT EXISTS gatekey.head (
    store text PRIMARY KEY,
    position bigint NOT NULL,
    seal bytea NOT NULL,
    fence bigint NOT NULL,
    floor bigint NOT NULL,
    founding bytea NOT NULL
);

CREATE TABLE IF NOT EXISTS gatekey.log (
    store text NOT NULL,
    position bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (store, position)
);
-- Entries do not compress, and parts of them are not read.
ALTER TABLE gatekey.log ALTER COLUMN body SET STORAGE EXTERNAL;

-- Of entries that are too large for a row, by the position before the entry.
CREATE TABLE IF NOT EXISTS gatekey.body (
    store text NOT NULL,
    after bigint NOT NULL,
    id bytea NOT NULL,
    part int NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (store, after, id, part)
);
ALTER TABLE gatekey.body ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE IF NOT EXISTS gatekey.node (
    store text NOT NULL,
    node text NOT NULL,
    position bigint NOT NULL,
    lease_ms bigint NOT NULL,
    beaten_at timestamptz NOT NULL,
    reads bytea NOT NULL DEFAULT '',
    PRIMARY KEY (store, node)
) WITH (fillfactor = 50);
-- Tables of before 27 November 2026 lack it.
ALTER TABLE gatekey.node ADD COLUMN IF NOT EXISTS reads bytea NOT NULL DEFAULT '';

CREATE TABLE IF NOT EXISTS gatekey.snapshot (
    store text NOT NULL,
    position bigint NOT NULL,
    parts int NOT NULL,
    PRIMARY KEY (store, position)
);

CREATE TABLE IF NOT EXISTS gatekey.part (
    store text NOT NULL,
    position bigint NOT NULL,
    part int NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (store, position, part)
);
ALTER TABLE gatekey.part ALTER COLUMN body SET STORAGE EXTERNAL;

-- What a server's role needs, and no more:
--   GRANT USAGE ON SCHEMA gatekey TO servers;
--   GRANT SELECT, INSERT, UPDATE ON gatekey.head TO servers;
--   GRANT SELECT, INSERT, DELETE ON gatekey.log, gatekey.body TO servers;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON gatekey.node, gatekey.snapshot, gatekey.part TO servers;
