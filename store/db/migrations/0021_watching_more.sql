ALTER TABLE request ADD COLUMN dealt VARCHAR;      -- the version in whose share of callers it is, whichever answered
ALTER TABLE request ADD COLUMN copy_of VARCHAR;    -- of a shadow: the id of the request that it copies
CREATE TABLE side_by_side (            -- a candidate, or a shadow, beside the live version
    endpoint_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,            -- the name that callers ask for
    live VARCHAR NOT NULL,             -- version
    other VARCHAR NOT NULL,            -- version
    role VARCHAR NOT NULL,             -- of the other: candidate | shadow
    share DOUBLE NOT NULL,
    noticed_at TIMESTAMP NOT NULL,
    since TIMESTAMP,                   -- answers from here on count; null: the other one has given none yet
    ended_at TIMESTAMP,                -- versions or shares became others, or somebody has seen its alert
    looks JSON NOT NULL                -- OutcomeKind -> ArmsLook: the last one
);
CREATE TABLE request_judgement (       -- what a judge said of logged answers; no text
    job_id VARCHAR NOT NULL,
    endpoint_id VARCHAR NOT NULL,
    request_id VARCHAR NOT NULL,
    asked_at TIMESTAMP NOT NULL,
    version VARCHAR NOT NULL,
    grouped_by VARCHAR,
    at_random BOOLEAN NOT NULL,        -- of the random sample; else it is there as people rated it
    passed BOOLEAN                     -- null: the judge gave no verdict
);
CREATE TABLE bias_run (                -- bias checks that the schedule of a monitor asked for
    endpoint_id VARCHAR NOT NULL,
    job_id VARCHAR NOT NULL,
    queued_at TIMESTAMP NOT NULL
);
