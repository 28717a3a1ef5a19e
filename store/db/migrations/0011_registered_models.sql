CREATE TABLE registered_model (
    model_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL UNIQUE,
    description VARCHAR NOT NULL,
    created_by VARCHAR NOT NULL,
    created_by_name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);
CREATE TABLE model_version (           -- never changed: another content is another version
    model_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    source JSON NOT NULL,              -- VersionSource
    run_id VARCHAR,                    -- null for an imported folder
    base_model VARCHAR,
    adapter BOOLEAN NOT NULL,
    folder VARCHAR NOT NULL,           -- beneath the home folder
    fingerprint VARCHAR NOT NULL,
    files JSON NOT NULL,               -- VersionFile
    notes VARCHAR NOT NULL,
    created_by VARCHAR NOT NULL,
    created_by_name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (model_id, version)
);
CREATE TABLE model_alias (             -- where each alias stands now
    model_id VARCHAR NOT NULL,
    alias VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    moved_at TIMESTAMP NOT NULL,
    PRIMARY KEY (model_id, alias)
);
