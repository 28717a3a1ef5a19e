CREATE SEQUENCE activity_number START 1;
CREATE TABLE activity (                -- who did what; appended to alone, no statement changes a row
    activity_id BIGINT PRIMARY KEY,
    done_at TIMESTAMP NOT NULL,
    person_id VARCHAR NOT NULL,
    person_name VARCHAR NOT NULL,      -- as it was, as is the subject's
    command VARCHAR NOT NULL,          -- store.catalog.actions.ACTIONS
    subject_kind VARCHAR NOT NULL,     -- store.documents.tables.activity.SubjectKind
    subject_id VARCHAR NOT NULL,
    subject_name VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    comment_id VARCHAR                 -- of a comment on the subject; null for all else
);

CREATE TABLE comment (
    comment_id VARCHAR PRIMARY KEY,
    subject_kind VARCHAR NOT NULL,     -- run | row | evaluation | comparison
    subject_id VARCHAR NOT NULL,       -- as store.queries.comments names it
    person_id VARCHAR NOT NULL,
    person_name VARCHAR NOT NULL,      -- as it was
    text VARCHAR NOT NULL,             -- empty once it is deleted
    mentions JSON NOT NULL,            -- [{"person_id", "name"}] of those whom it names by @
    written_at TIMESTAMP NOT NULL,
    edited_at TIMESTAMP,
    deleted_at TIMESTAMP
);

ALTER TABLE job ADD COLUMN created_by VARCHAR;        -- person_id; null: nobody knows
ALTER TABLE run ADD COLUMN created_by VARCHAR;
ALTER TABLE dataset ADD COLUMN created_by VARCHAR;
ALTER TABLE evaluation ADD COLUMN created_by VARCHAR;

CREATE OR REPLACE VIEW run_overview AS
SELECT r.*, j.status, j.attempt, j.device, j.after_jobs, j.started_at, j.ended_at,
       j.progress_done, j.progress_total, j.progress_unit, j.progress_message, j.eta_seconds,
       j.cancel_requested_at, j.error,
       (r.facts ->> 'best_eval_loss')::DOUBLE AS best_eval_loss,
       (r.facts ->> 'best_step')::BIGINT AS best_step,
       CASE WHEN v.first_step = 0 THEN v.first_value END AS base_eval_loss,
       v.last_value AS last_eval_loss, t.last_value AS last_train_loss, t.last_step AS last_step
FROM run r
JOIN job j ON j.job_id = r.run_id
LEFT JOIN metric_summary v ON v.run_id = r.run_id AND v.name = 'eval/loss'
LEFT JOIN metric_summary t ON t.run_id = r.run_id AND t.name = 'train/loss';

-- A name is its owner's alone, which a constraint on columns that may be null can't say: the writes
-- of store.queries.data.saved hold it.
CREATE TABLE saved_recipe (
    recipe_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    steps JSON NOT NULL,
    created_at TIMESTAMP NOT NULL,     -- of this revision
    created_by VARCHAR,                -- the owner; null: nobody knows
    saved_by VARCHAR NOT NULL,         -- the name of who saved this revision; empty: nobody knows
    shared BOOLEAN NOT NULL,           -- else its owner's alone
    revision INTEGER NOT NULL          -- 1, and one more each time it is saved anew
);
INSERT INTO saved_recipe SELECT recipe_id, name, steps, created_at, NULL, '', true, 1 FROM recipe;
DROP TABLE recipe;
ALTER TABLE saved_recipe RENAME TO recipe;

CREATE TABLE saved_slice (
    slice_id VARCHAR PRIMARY KEY,
    dataset_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    filter JSON NOT NULL,
    created_at TIMESTAMP NOT NULL,
    created_by VARCHAR,
    saved_by VARCHAR NOT NULL,
    shared BOOLEAN NOT NULL,
    revision INTEGER NOT NULL
);
INSERT INTO saved_slice
SELECT 'slice-' || md5(dataset_id || '/' || name), dataset_id, name, filter, created_at,
       NULL, '', true, 1
FROM slice;
DROP TABLE slice;
ALTER TABLE saved_slice RENAME TO slice;
