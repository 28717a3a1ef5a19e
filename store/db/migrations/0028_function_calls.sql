ALTER TABLE request ADD COLUMN calls BIGINT;          -- of functions, in the first choice
ALTER TABLE request ADD COLUMN invalid_calls BIGINT;  -- null: nobody checked
ALTER TABLE request_minute ADD COLUMN calls BIGINT DEFAULT 0;
ALTER TABLE request_minute ADD COLUMN invalid_calls BIGINT DEFAULT 0;
ALTER TABLE request_hour ADD COLUMN calls BIGINT DEFAULT 0;
ALTER TABLE request_hour ADD COLUMN invalid_calls BIGINT DEFAULT 0;
