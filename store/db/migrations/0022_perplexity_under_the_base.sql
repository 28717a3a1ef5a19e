ALTER TABLE request_signal ADD COLUMN output_perplexity DOUBLE;  -- nats a token of the answer, under the base
ALTER TABLE monitor ADD COLUMN base_look JSON;                   -- BaseLook: of the last look that asked a base
