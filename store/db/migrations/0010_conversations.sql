CREATE TABLE conversation (
    conversation_id VARCHAR PRIMARY KEY,
    title VARCHAR NOT NULL,            -- empty until something is said
    settings JSON NOT NULL,            -- store.config.talk_config.TalkSettings
    made_by VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    changed_at TIMESTAMP NOT NULL      -- when something was last said
);

CREATE TABLE turn (                    -- what a person said; a tree within its conversation
    turn_id VARCHAR PRIMARY KEY,
    conversation_id VARCHAR NOT NULL,
    parent_id VARCHAR,                 -- the turn before it; null at the beginning
    prompt VARCHAR NOT NULL,
    settings JSON NOT NULL,            -- as they were
    said_by VARCHAR NOT NULL,
    said_at TIMESTAMP NOT NULL
);

CREATE TABLE turn_answer (             -- what a model answered, as far as it came
    turn_id VARCHAR NOT NULL,
    place INTEGER NOT NULL,            -- of the model among those of the turn's settings
    label VARCHAR NOT NULL,            -- as the model was called
    model JSON NOT NULL,               -- TalkModel without its sampling
    text VARCHAR NOT NULL,
    tokens JSON NOT NULL,              -- TalkToken, each with its probability and alternatives
    reason VARCHAR NOT NULL,           -- end | stop | length | stopped | failed
    figures JSON,                      -- TalkFigures; null where it failed or was stopped
    error JSON,
    ended_at TIMESTAMP NOT NULL,
    PRIMARY KEY (turn_id, place)
);

CREATE TABLE kept_row (                -- rows that people made of answers
    kept_id VARCHAR PRIMARY KEY,
    conversation_id VARCHAR NOT NULL,  -- it may be deleted
    turn_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,             -- test | training
    messages JSON NOT NULL,            -- the last one is the answer as it should be
    corrected BOOLEAN NOT NULL,        -- a person changed what the model said
    kept_by VARCHAR NOT NULL,
    kept_at TIMESTAMP NOT NULL,
    dataset_name VARCHAR,              -- that it went into; null while it waits
    job_id VARCHAR                     -- whose result that is
);
