ALTER TABLE alert ADD COLUMN kind VARCHAR; -- of a verdict, once a job: store.queries.alerts.KINDS
ALTER TABLE alert ADD COLUMN step BIGINT;  -- that it is about
