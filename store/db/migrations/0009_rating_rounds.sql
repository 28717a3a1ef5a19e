CREATE TABLE rating_round (
    round_id VARCHAR PRIMARY KEY,      -- the job_id of the job that gathered its answers
    name VARCHAR NOT NULL,
    notes VARCHAR NOT NULL,
    protocol VARCHAR NOT NULL,         -- pairwise | rank | rubric | pass_fail | correction
    config JSON NOT NULL,              -- RoundConfig
    systems JSON NOT NULL,             -- RoundSystem: whose answers; the places are their numbers
    state VARCHAR NOT NULL,            -- open | closed
    dataset_id VARCHAR,                -- of the prompts; null for a round from elsewhere
    item_count INTEGER NOT NULL,
    details JSON NOT NULL,             -- RoundDetails
    created_by VARCHAR NOT NULL,
    created_by_name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    closed_at TIMESTAMP,
    closed_by_name VARCHAR
);
CREATE TABLE rating_item (
    round_id VARCHAR NOT NULL,
    item_id INTEGER NOT NULL,
    row_id BIGINT,                     -- of the data set
    prompt JSON NOT NULL,              -- turns: role, content
    reference VARCHAR,
    answers VARCHAR[] NOT NULL,        -- by the numbers of the models
    named BOOLEAN NOT NULL,            -- an answer names a model
    better INTEGER,                    -- of a gold item: which answer is known to be better
    weight DOUBLE NOT NULL,            -- 1 / the chance to be chosen, where not all had the same
    PRIMARY KEY (round_id, item_id)
);
CREATE TABLE rating_task (
    task_id VARCHAR PRIMARY KEY,       -- random: it says nothing of item and rater
    round_id VARCHAR NOT NULL,
    item_id INTEGER NOT NULL,
    person_id VARCHAR NOT NULL,
    person_name VARCHAR NOT NULL,
    systems INTEGER[] NOT NULL,        -- in the order in which they are shown
    purpose VARCHAR NOT NULL,          -- first | repeat | gold | adjudication
    repeat_of VARCHAR,                 -- the task that is shown again
    place INTEGER NOT NULL,            -- of the rater's tasks in this round
    given_at TIMESTAMP NOT NULL
);
CREATE INDEX rating_task_round ON rating_task (round_id);
CREATE TABLE rating (                  -- append only: a rater who thinks again adds a revision
    task_id VARCHAR NOT NULL,
    revision INTEGER NOT NULL,
    round_id VARCHAR NOT NULL,
    answer JSON NOT NULL,              -- RatingAnswer
    comment VARCHAR NOT NULL,
    seconds DOUBLE NOT NULL,           -- from the showing to the answer
    rated_at TIMESTAMP NOT NULL,
    PRIMARY KEY (task_id, revision)
);
CREATE INDEX rating_round_id ON rating (round_id);
CREATE TABLE rating_left_out (         -- raters whose ratings don't count
    round_id VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    by_name VARCHAR NOT NULL,
    left_out_at TIMESTAMP NOT NULL,
    PRIMARY KEY (round_id, person_id)
);
