CREATE TABLE log_offset (              -- how far each file of an endpoint's log is in the store
    endpoint_id VARCHAR NOT NULL,
    file VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    torn BIGINT NOT NULL,              -- of the lines: those that could not be read
    PRIMARY KEY (endpoint_id, file)
);

CREATE TABLE request (                 -- store.documents.serving.request_line; gone after the days that are kept
    endpoint_id VARCHAR NOT NULL,
    place BIGINT NOT NULL,             -- of the requests of its endpoint, in the order in which they were taken
    request_id VARCHAR NOT NULL,
    asked_at TIMESTAMP NOT NULL,
    kind VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    person_id VARCHAR,
    caller VARCHAR,                    -- `user`: whom the caller names, by a hash
    status SMALLINT NOT NULL,
    error VARCHAR,
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    first_token_seconds DOUBLE,
    seconds DOUBLE NOT NULL,
    finish_reason VARCHAR,
    mean_logprob DOUBLE,
    label VARCHAR,
    confidence DOUBLE,
    abstained BOOLEAN NOT NULL,
    input_characters BIGINT NOT NULL,
    output_characters BIGINT,
    messages JSON,
    output VARCHAR,
    redacted BIGINT NOT NULL,
    grouped_by VARCHAR                 -- `group`
);

CREATE TABLE feedback (                -- store.documents.serving.feedback_line
    feedback_id VARCHAR NOT NULL,
    request_id VARCHAR NOT NULL,
    endpoint_id VARCHAR NOT NULL,
    given_at TIMESTAMP NOT NULL,
    person_id VARCHAR,
    kind VARCHAR NOT NULL,
    value DOUBLE,
    text VARCHAR,
    comment VARCHAR NOT NULL,
    version VARCHAR,                   -- of its request, as all below; null: the request is not in the log
    role VARCHAR,
    caller VARCHAR,
    grouped_by VARCHAR,
    correct BOOLEAN,                   -- of a label: the answer was it
    is_last BOOLEAN NOT NULL           -- of what its person said of its request in its kind
);

CREATE TABLE request_minute (          -- all requests for ever, by the minute; buckets: store.queries.monitoring.buckets
    endpoint_id VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    starts_at TIMESTAMP NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,            -- status 500 and above
    refused BIGINT NOT NULL,           -- status 400 to 499
    abstained BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    seconds DOUBLE NOT NULL,           -- sum, of those that were answered
    latency STRUCT(bucket SMALLINT, n BIGINT)[] NOT NULL,
    first_token STRUCT(bucket SMALLINT, n BIGINT)[] NOT NULL
);

CREATE TABLE request_hour (            -- the same by the hour, for long windows
    endpoint_id VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    starts_at TIMESTAMP NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    abstained BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    seconds DOUBLE NOT NULL,
    latency STRUCT(bucket SMALLINT, n BIGINT)[] NOT NULL,
    first_token STRUCT(bucket SMALLINT, n BIGINT)[] NOT NULL
);

CREATE TABLE monitor (                 -- one for each endpoint that was ever asked
    endpoint_id VARCHAR PRIMARY KEY,
    config JSON NOT NULL,              -- store.config.monitor_config, without what is as it comes
    revision BIGINT NOT NULL,          -- rises with each change of what the tests rest on
    next_place BIGINT NOT NULL,        -- requests that were taken
    measured_place BIGINT NOT NULL,    -- those before it are measured and in the states
    reference JSON,                    -- ReferenceFacts; null until it is measured
    states JSON NOT NULL,              -- TestState of each watched value
    changed_by_name VARCHAR NOT NULL,
    changed_at TIMESTAMP NOT NULL
);

CREATE TABLE request_signal (          -- what was measured of a request; gone with it
    endpoint_id VARCHAR NOT NULL,
    place BIGINT NOT NULL,
    asked_at TIMESTAMP NOT NULL,
    input_length DOUBLE,
    input_language VARCHAR,
    input_distance DOUBLE,
    input_topic VARCHAR,
    output_length DOUBLE,
    output_refusal DOUBLE,
    output_repetition DOUBLE,
    output_label VARCHAR,
    confidence DOUBLE
);

CREATE TABLE signal_hour (             -- how often each bin, or name, of a watched value came in an hour
    endpoint_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    counts STRUCT(bin INTEGER, category VARCHAR, n BIGINT)[] NOT NULL
);

CREATE TABLE monitor_alert (
    alert_id VARCHAR PRIMARY KEY,
    endpoint_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,             -- drift | quality | errors | latency
    subject VARCHAR NOT NULL,          -- of drift the watched value; else what of it
    reason VARCHAR NOT NULL,
    advice VARCHAR NOT NULL,
    first_place BIGINT,                -- of drift: requests from here to the last one are behind it
    last_place BIGINT,
    since TIMESTAMP NOT NULL,
    raised_at TIMESTAMP NOT NULL,
    acknowledged_by VARCHAR,
    acknowledged_by_name VARCHAR,
    acknowledged_at TIMESTAMP,
    outcome VARCHAR,                   -- of drift: same_reference | new_normal
    note VARCHAR
);

CREATE TABLE golden_run (              -- evaluations that the schedule of a monitor asked for
    endpoint_id VARCHAR NOT NULL,
    job_id VARCHAR NOT NULL,
    queued_at TIMESTAMP NOT NULL
);

CREATE TABLE webhook (
    webhook_id VARCHAR PRIMARY KEY,
    url VARCHAR NOT NULL,
    set_by_name VARCHAR NOT NULL,
    set_at TIMESTAMP NOT NULL
);

CREATE TABLE webhook_secret (          -- closed to all SQL of requests
    webhook_id VARCHAR PRIMARY KEY,
    secret VARCHAR NOT NULL
);

CREATE TABLE webhook_delivery (
    delivery_id VARCHAR PRIMARY KEY,
    webhook_id VARCHAR NOT NULL,
    alert_id VARCHAR,                  -- null: a trial
    body VARCHAR NOT NULL,
    state VARCHAR NOT NULL,            -- waiting | sent | given_up
    attempts INTEGER NOT NULL,
    next_at TIMESTAMP NOT NULL,
    status SMALLINT,                   -- of the last answer
    trouble VARCHAR,                   -- why the last attempt failed
    queued_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP
);
