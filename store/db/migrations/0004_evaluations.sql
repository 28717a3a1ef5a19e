CREATE TABLE evaluation (              -- one that has finished; while it works it is a job
    evaluation_id VARCHAR PRIMARY KEY, -- the job_id of its job
    name VARCHAR NOT NULL,
    notes VARCHAR NOT NULL,
    model VARCHAR NOT NULL,            -- of a run: its base model
    run_id VARCHAR,                    -- null for a model that no run made
    checkpoint VARCHAR NOT NULL,       -- tuned | best | newest | base
    dataset_id VARCHAR NOT NULL,
    dataset_name VARCHAR NOT NULL,     -- as it was when it was asked for
    data_fingerprint VARCHAR NOT NULL, -- of the rows: row ids mean the same under the same one
    part VARCHAR NOT NULL,             -- train | validation | test | all
    n BIGINT NOT NULL,                 -- rows
    config JSON NOT NULL,              -- EvaluateConfig
    figures JSON NOT NULL,             -- a document for each metric: `scored`
    details JSON NOT NULL,             -- counts, notices, probes, seconds, device
    created_at TIMESTAMP NOT NULL
);
