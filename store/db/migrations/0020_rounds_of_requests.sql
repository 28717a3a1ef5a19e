CREATE TABLE round_request (           -- which logged requests a rating round asks about; it outlives their log
    round_id VARCHAR NOT NULL,
    item_id INTEGER NOT NULL,
    endpoint_id VARCHAR NOT NULL,
    request_id VARCHAR NOT NULL,
    asked_at TIMESTAMP NOT NULL,
    version VARCHAR NOT NULL,          -- that answered
    role VARCHAR NOT NULL,
    label VARCHAR,                     -- that was served, where labels are asked for
    random BOOLEAN NOT NULL,           -- its item is of the random draw; else chosen as it tells most
    probability DOUBLE,                -- of each item to be in that draw; null for a chosen one
    reasons VARCHAR[] NOT NULL         -- why it was chosen, in words
);
CREATE INDEX round_request_round ON round_request (round_id);
