CREATE TABLE endpoint (
    endpoint_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL UNIQUE,
    wanted VARCHAR NOT NULL,           -- running | stopped
    wanted_at TIMESTAMP NOT NULL,      -- when somebody last said so
    settings JSON NOT NULL,            -- EndpointSettings
    created_by VARCHAR NOT NULL,
    created_by_name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);
CREATE TABLE endpoint_key (            -- closed to the SQL of people
    key_id VARCHAR PRIMARY KEY,
    endpoint_id VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    person_name VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    secret VARCHAR NOT NULL UNIQUE,    -- SHA-256
    requests_per_minute INTEGER,
    tokens_per_day BIGINT,
    created_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP,
    revoked_at TIMESTAMP
);
