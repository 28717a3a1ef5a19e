CREATE TABLE person (                  -- who has an account; what they did names them for good
    person_id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    role VARCHAR NOT NULL,             -- store.contract.roles
    active BOOLEAN NOT NULL,           -- false: may not sign in
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE account (                 -- how they sign in
    person_id VARCHAR PRIMARY KEY,
    email VARCHAR NOT NULL UNIQUE,     -- in small letters
    password VARCHAR,                  -- argon2id; null: by the provider alone
    verified BOOLEAN NOT NULL          -- the address is theirs: an admin or the provider has given it
);

-- Secrets are kept as SHA-256 alone.
CREATE TABLE invitation (
    invitation_id VARCHAR PRIMARY KEY,
    secret VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    email VARCHAR,                     -- null: whoever has the link chooses
    person_id VARCHAR,                 -- whose password it sets; null: it makes an account
    made_by VARCHAR NOT NULL,          -- a person's id
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);

CREATE TABLE session (
    session_id VARCHAR PRIMARY KEY,
    secret VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    address VARCHAR NOT NULL,          -- where it began
    agent VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    seen_at TIMESTAMP NOT NULL         -- to the minute
);

CREATE TABLE api_token (
    token_id VARCHAR PRIMARY KEY,
    secret VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP                  -- to the minute
);
