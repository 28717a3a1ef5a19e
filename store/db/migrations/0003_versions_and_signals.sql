ALTER TABLE dataset ADD COLUMN parent_id VARCHAR;     -- the version that the recipe was run on
ALTER TABLE dataset ADD COLUMN recipe JSON;           -- as store.config.recipe; null for an import
ALTER TABLE dataset ADD COLUMN fates JSON;            -- {"kept", "changed", "dropped", "added"}: rows
ALTER TABLE dataset ADD COLUMN split_by VARCHAR DEFAULT 'random'; -- Split
ALTER TABLE dataset ADD COLUMN split_column VARCHAR;  -- store.config.filters names it

CREATE TABLE signal (                  -- a sidecar that is there, whole
    fingerprint VARCHAR NOT NULL,      -- of the rows that were measured
    name VARCHAR NOT NULL,             -- store.catalog.signals.GROUPS
    version INTEGER NOT NULL,
    options JSON NOT NULL,             -- model, max_length, … it was measured with
    row_count BIGINT NOT NULL,         -- measured; fewer than the data set's where it is a sample
    reused_count BIGINT NOT NULL,      -- taken over from the version before
    figures JSON NOT NULL,             -- column -> {"n", …}, docs/architecture.md
    seconds DOUBLE NOT NULL,
    computed_at TIMESTAMP NOT NULL,
    PRIMARY KEY (fingerprint, name)
);

CREATE TABLE recipe (                  -- recipes that somebody saved
    recipe_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL UNIQUE,
    steps JSON NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE slice (                   -- rows that somebody named
    dataset_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    filter JSON NOT NULL,              -- store.config.filters.Filter
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (dataset_id, name)
);
