CREATE TABLE bias_check (
    job_id VARCHAR PRIMARY KEY,
    run_id VARCHAR,                    -- the run whose tuned model was held against its base; null for other models
    model VARCHAR NOT NULL,            -- by the name that people gave it, NAME@3 resolved to its number
    against VARCHAR NOT NULL,          -- empty where only one model was measured
    config JSON NOT NULL,              -- BiasConfig
    report JSON NOT NULL,              -- BiasReport
    details JSON NOT NULL,             -- BiasDetails
    created_by VARCHAR,
    created_at TIMESTAMP NOT NULL
);
