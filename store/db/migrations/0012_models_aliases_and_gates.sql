ALTER TABLE registered_model ADD COLUMN last_version INTEGER DEFAULT 0; -- a number is given once, even where its version was deleted
CREATE TABLE alias_move (              -- every move of an alias, never changed
    move_id VARCHAR PRIMARY KEY,
    model_id VARCHAR NOT NULL,
    alias VARCHAR NOT NULL,
    from_version INTEGER,              -- null: it stood nowhere
    to_version INTEGER,                -- null: it was taken away
    kind VARCHAR NOT NULL,             -- promoted, overridden, back, removed
    reason VARCHAR NOT NULL,
    gate JSON,                         -- GateReport as it was then; null without a gate
    moved_by VARCHAR NOT NULL,
    moved_by_name VARCHAR NOT NULL,
    moved_at TIMESTAMP NOT NULL
);
CREATE TABLE model_gate (              -- what a version has to pass before it takes an alias
    model_id VARCHAR NOT NULL,
    alias VARCHAR NOT NULL,
    config JSON NOT NULL,              -- store.config.gate_config.GateConfig
    changed_by VARCHAR NOT NULL,
    changed_by_name VARCHAR NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    PRIMARY KEY (model_id, alias)
);
