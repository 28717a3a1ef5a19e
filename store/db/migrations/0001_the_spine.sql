CREATE TABLE setting (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);

CREATE TABLE job (
    job_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,                 -- train | import | convert
    lane VARCHAR NOT NULL,                 -- device: one a device at a time; light: one at a time
    title VARCHAR NOT NULL,
    status VARCHAR NOT NULL,               -- store.contract.states
    config JSON NOT NULL,
    after_jobs VARCHAR[] NOT NULL,         -- must be finished before this one starts
    attempt INTEGER NOT NULL DEFAULT 1,    -- 2 is the first resume
    device VARCHAR,
    pid INTEGER,
    process_started DOUBLE,                -- with pid it names one process for good
    event_offset BIGINT NOT NULL DEFAULT 0,-- bytes of events.jsonl that are in the store
    created_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP,                  -- of the present attempt
    ended_at TIMESTAMP,
    heartbeat_at TIMESTAMP,                -- the worker was last seen alive
    cancel_requested_at TIMESTAMP,
    progress_done DOUBLE,
    progress_total DOUBLE,
    progress_unit VARCHAR,
    progress_message VARCHAR,
    eta_seconds DOUBLE,
    error JSON,                            -- {error, message, fix, field, traceback}
    result JSON
);

CREATE SEQUENCE run_number START 1;
CREATE TABLE run (
    run_id VARCHAR PRIMARY KEY,            -- the job_id of its job
    number INTEGER NOT NULL,               -- picks its colour, for good
    name VARCHAR NOT NULL,
    notes VARCHAR NOT NULL,
    dataset_id VARCHAR NOT NULL,
    dataset_name VARCHAR NOT NULL,         -- as it was at the launch
    data_fingerprint VARCHAR,              -- of the rows; null until an import it waits for is done
    model VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    seed INTEGER NOT NULL,
    config JSON NOT NULL,                  -- TrainConfig, resolved
    facts JSON NOT NULL,                   -- counts, versions, device, precision
    verdict JSON,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE alert (
    job_id VARCHAR NOT NULL,
    level VARCHAR NOT NULL,
    message VARCHAR NOT NULL,
    raised_at TIMESTAMP NOT NULL
);

CREATE TABLE metric (
    run_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE NOT NULL,                 -- may be NaN or infinite: shown as such, never dropped
    logged_at TIMESTAMP NOT NULL
);
CREATE TABLE metric_summary (
    run_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    count BIGINT NOT NULL,                 -- of all points; the rest is over the finite ones
    nonfinite BIGINT NOT NULL,
    min DOUBLE, max DOUBLE, sum DOUBLE, sum_squares DOUBLE,
    min_step BIGINT, max_step BIGINT,      -- where min and max were first reached
    first_step BIGINT, first_value DOUBLE, first_at TIMESTAMP,
    last_step BIGINT, last_value DOUBLE, last_at TIMESTAMP,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE prediction (
    run_id VARCHAR NOT NULL, row_id BIGINT NOT NULL, split VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL, reference VARCHAR NOT NULL, base VARCHAR NOT NULL, tuned VARCHAR NOT NULL
);

CREATE TABLE dataset (
    dataset_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL UNIQUE,
    kind VARCHAR NOT NULL,                 -- chat | text | preference
    format VARCHAR NOT NULL,               -- store.catalog.formats
    columns JSON NOT NULL,                 -- role -> column of the file
    source JSON NOT NULL,
    fingerprint VARCHAR NOT NULL,          -- of the rows; names their folder
    row_count BIGINT NOT NULL,
    skipped_count BIGINT NOT NULL,
    duplicate_count BIGINT NOT NULL,       -- rows whose text an earlier row already has
    source_bytes BIGINT NOT NULL,
    stats JSON NOT NULL,                   -- see docs/architecture.md, import result
    split_seed INTEGER NOT NULL,
    validation_size DOUBLE NOT NULL,
    test_size DOUBLE NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE VIEW run_overview AS
SELECT r.*, j.status, j.attempt, j.device, j.after_jobs, j.started_at, j.ended_at, j.heartbeat_at,
       j.progress_done, j.progress_total, j.progress_unit, j.progress_message, j.eta_seconds,
       j.cancel_requested_at, j.error,
       v.min AS best_eval_loss, v.min_step AS best_step, v.first_value AS base_eval_loss,
       v.last_value AS last_eval_loss, t.last_value AS last_train_loss, t.last_step AS last_step
FROM run r
JOIN job j ON j.job_id = r.run_id
LEFT JOIN metric_summary v ON v.run_id = r.run_id AND v.name = 'eval/loss'
LEFT JOIN metric_summary t ON t.run_id = r.run_id AND t.name = 'train/loss';
