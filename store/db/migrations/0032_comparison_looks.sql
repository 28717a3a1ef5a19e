-- Sets of runs that were compared with one another on the same held-out rows, each once; never changed.
CREATE TABLE comparison_look (
    data_fingerprint VARCHAR NOT NULL, -- of the rows, which with the split are those that were held out
    split VARCHAR NOT NULL,            -- validation | test
    run_ids VARCHAR NOT NULL,          -- sorted, joined by commas; they stay when a run is deleted
    narrows BOOLEAN NOT NULL,          -- some runs of a comparison before it are left out
    first_at TIMESTAMP NOT NULL,
    PRIMARY KEY (data_fingerprint, split, run_ids)
);
