CREATE TABLE improvement (             -- from what came back to a promoted version
    improvement_id VARCHAR PRIMARY KEY,
    model_id VARCHAR NOT NULL,
    alias VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    config JSON NOT NULL,              -- store.config.improve_config.ImproveConfig
    state VARCHAR NOT NULL,            -- ImprovementState
    failed_at VARCHAR,                 -- of a failed one: the step that it can be gone on with
    facts JSON NOT NULL,               -- ImprovementFacts
    trouble JSON,                      -- ErrorDocument
    scheduled BOOLEAN NOT NULL,
    begun_by VARCHAR NOT NULL,
    begun_by_name VARCHAR NOT NULL,
    begun_at TIMESTAMP NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP,
    ended_by_name VARCHAR,
    note VARCHAR NOT NULL
);
CREATE TABLE improvement_schedule (
    model_id VARCHAR PRIMARY KEY,
    config JSON NOT NULL,              -- store.config.improve_config.ImproveSchedule
    set_by VARCHAR NOT NULL,
    set_by_name VARCHAR NOT NULL,
    set_at TIMESTAMP NOT NULL,
    last_at TIMESTAMP,                 -- when it was last looked whether there are rows enough
    last_rows BIGINT,                  -- that there were then
    trouble JSON                       -- ErrorDocument: why the last one could not begin
);
