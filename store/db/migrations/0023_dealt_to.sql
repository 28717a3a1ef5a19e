ALTER TABLE request ADD COLUMN dealt_to VARCHAR;    -- to whom the gateway dealt the version, by a hash
ALTER TABLE feedback ADD COLUMN asked_at TIMESTAMP; -- of its request, as all below
ALTER TABLE feedback ADD COLUMN model VARCHAR;
ALTER TABLE feedback ADD COLUMN dealt VARCHAR;
ALTER TABLE feedback ADD COLUMN dealt_to VARCHAR;
-- What was compared before did not know to whom a version was dealt: it begins anew.
UPDATE side_by_side SET ended_at = coalesce(since, noticed_at) WHERE ended_at IS NULL;
