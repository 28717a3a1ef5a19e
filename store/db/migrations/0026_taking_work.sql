CREATE TABLE rating_hold (             -- tasks that a rater's page shows, or shows next; ended by a rating
    task_id VARCHAR NOT NULL,
    round_id VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    item_id INTEGER NOT NULL,
    systems BIGINT NOT NULL,           -- the models of its unit, a bit each
    purpose VARCHAR NOT NULL,
    renewed_at TIMESTAMP NOT NULL      -- when the page last asked for anything
);
CREATE TABLE rating_unit (             -- what a round deals, counted; made anew from the ratings where it is missing
    round_id VARCHAR NOT NULL,
    item_id INTEGER NOT NULL,
    systems BIGINT NOT NULL,           -- the models that are compared, or rated: a bit each
    calibration INTEGER,               -- its place among those that everybody rates first; else null
    rated INTEGER NOT NULL             -- people who have rated it, skips and repeats not counted
);
CREATE TABLE rating_assignment (       -- who rates a round; where it has none, whoever may rate
    round_id VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    quota INTEGER,                     -- ratings at most; null: no limit of their own
    by_name VARCHAR NOT NULL,
    assigned_at TIMESTAMP NOT NULL
);
-- Rounds that began without a share for calibration go on without it.
UPDATE rating_round SET config = json_merge_patch(config, '{"calibration_share": 0}')
WHERE config ->> 'protocol' IS NOT NULL;
