CREATE TABLE model_export (
    job_id VARCHAR PRIMARY KEY,
    subject VARCHAR NOT NULL,          -- run or version
    name VARCHAR NOT NULL,             -- of it, as it was
    run_id VARCHAR,                    -- null for a version of an imported folder
    model_id VARCHAR,                  -- null for a run
    version INTEGER,
    checkpoint VARCHAR NOT NULL,
    form VARCHAR NOT NULL,             -- of store.catalog.export_forms
    gguf VARCHAR,
    folder VARCHAR NOT NULL,           -- beneath the home folder
    bytes BIGINT NOT NULL,
    model_bytes BIGINT NOT NULL,
    source_bytes BIGINT NOT NULL,
    files JSON NOT NULL,               -- VersionFile
    zip VARCHAR,
    hub VARCHAR,
    status VARCHAR NOT NULL,           -- of its parity
    parity JSON NOT NULL,              -- ParityReport
    notices JSON NOT NULL,
    tokens_per_second DOUBLE,
    created_by VARCHAR,
    created_at TIMESTAMP NOT NULL
);
