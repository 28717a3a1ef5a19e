ALTER TABLE rating_item ADD COLUMN "check" VARCHAR;   -- gold | attention | qualification; null for what is rated
ALTER TABLE rating_item ADD COLUMN expected JSON;     -- of a check: RatingAnswer, "A" being its first answer
UPDATE rating_item
SET "check" = 'gold', expected = CASE better WHEN 0 THEN '{"choice": "A"}' ELSE '{"choice": "B"}' END
WHERE better IS NOT NULL;
ALTER TABLE rating_item DROP COLUMN better;
CREATE TABLE rating_let_in (           -- raters who go on although they failed the qualification
    round_id VARCHAR NOT NULL,
    person_id VARCHAR NOT NULL,
    by_name VARCHAR NOT NULL,
    let_in_at TIMESTAMP NOT NULL,
    PRIMARY KEY (round_id, person_id)
);
