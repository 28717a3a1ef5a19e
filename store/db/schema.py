"""The tables of the experiment store, as ordered migrations.

A migration is applied in one transaction with its record in `migration`; it is never edited once it
has been released, a change is a new one. All times are TIMESTAMP in UTC; JSON columns hold documents
whose shape `store.config.train_config`, `store.config.import_config` or docs/architecture.md gives.
"""

from __future__ import annotations

SECRET_TABLES = frozenset({"account", "invitation", "session", "api_token"})  # closed to all SQL of requests

MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "0001 the spine",
        """
        CREATE TABLE setting (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);

        CREATE TABLE job (
            job_id VARCHAR PRIMARY KEY,
            kind VARCHAR NOT NULL,                 -- train | import | convert
            lane VARCHAR NOT NULL,                 -- device: one a device at a time; light: one at a time
            title VARCHAR NOT NULL,
            status VARCHAR NOT NULL,               -- store.contract.states
            config JSON NOT NULL,
            after_jobs VARCHAR[] NOT NULL,         -- must be finished before this one starts
            attempt INTEGER NOT NULL DEFAULT 1,    -- 2 is the first resume
            device VARCHAR,
            pid INTEGER,
            process_started DOUBLE,                -- with pid it names one process for good
            event_offset BIGINT NOT NULL DEFAULT 0,-- bytes of events.jsonl that are in the store
            created_at TIMESTAMP NOT NULL,
            started_at TIMESTAMP,                  -- of the present attempt
            ended_at TIMESTAMP,
            heartbeat_at TIMESTAMP,                -- the worker was last seen alive
            cancel_requested_at TIMESTAMP,
            progress_done DOUBLE,
            progress_total DOUBLE,
            progress_unit VARCHAR,
            progress_message VARCHAR,
            eta_seconds DOUBLE,
            error JSON,                            -- {error, message, fix, field, traceback}
            result JSON
        );

        CREATE SEQUENCE run_number START 1;
        CREATE TABLE run (
            run_id VARCHAR PRIMARY KEY,            -- the job_id of its job
            number INTEGER NOT NULL,               -- picks its colour, for good
            name VARCHAR NOT NULL,
            notes VARCHAR NOT NULL,
            dataset_id VARCHAR NOT NULL,
            dataset_name VARCHAR NOT NULL,         -- as it was at the launch
            data_fingerprint VARCHAR,              -- of the rows; null until an import it waits for is done
            model VARCHAR NOT NULL,
            method VARCHAR NOT NULL,
            seed INTEGER NOT NULL,
            config JSON NOT NULL,                  -- TrainConfig, resolved
            facts JSON NOT NULL,                   -- counts, versions, device, precision
            verdict JSON,
            created_at TIMESTAMP NOT NULL
        );

        CREATE TABLE alert (
            job_id VARCHAR NOT NULL,
            level VARCHAR NOT NULL,
            message VARCHAR NOT NULL,
            raised_at TIMESTAMP NOT NULL
        );

        CREATE TABLE metric (
            run_id VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            step BIGINT NOT NULL,
            value DOUBLE NOT NULL,                 -- may be NaN or infinite: shown as such, never dropped
            logged_at TIMESTAMP NOT NULL
        );
        CREATE TABLE metric_summary (
            run_id VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            count BIGINT NOT NULL,                 -- of all points; the rest is over the finite ones
            nonfinite BIGINT NOT NULL,
            min DOUBLE, max DOUBLE, sum DOUBLE, sum_squares DOUBLE,
            min_step BIGINT, max_step BIGINT,      -- where min and max were first reached
            first_step BIGINT, first_value DOUBLE, first_at TIMESTAMP,
            last_step BIGINT, last_value DOUBLE, last_at TIMESTAMP,
            PRIMARY KEY (run_id, name)
        );

        CREATE TABLE prediction (
            run_id VARCHAR NOT NULL, row_id BIGINT NOT NULL, split VARCHAR NOT NULL,
            prompt VARCHAR NOT NULL, reference VARCHAR NOT NULL, base VARCHAR NOT NULL, tuned VARCHAR NOT NULL
        );

        CREATE TABLE dataset (
            dataset_id VARCHAR PRIMARY KEY,
            name VARCHAR NOT NULL UNIQUE,
            kind VARCHAR NOT NULL,                 -- chat | text | preference
            format VARCHAR NOT NULL,               -- store.catalog.formats
            columns JSON NOT NULL,                 -- role -> column of the file
            source JSON NOT NULL,
            fingerprint VARCHAR NOT NULL,          -- of the rows; names their folder
            row_count BIGINT NOT NULL,
            skipped_count BIGINT NOT NULL,
            duplicate_count BIGINT NOT NULL,       -- rows whose text an earlier row already has
            source_bytes BIGINT NOT NULL,
            stats JSON NOT NULL,                   -- see docs/architecture.md, import result
            split_seed INTEGER NOT NULL,
            validation_size DOUBLE NOT NULL,
            test_size DOUBLE NOT NULL,
            created_at TIMESTAMP NOT NULL
        );

        CREATE VIEW run_overview AS
        SELECT r.*, j.status, j.attempt, j.device, j.after_jobs, j.started_at, j.ended_at, j.heartbeat_at,
               j.progress_done, j.progress_total, j.progress_unit, j.progress_message, j.eta_seconds,
               j.cancel_requested_at, j.error,
               v.min AS best_eval_loss, v.min_step AS best_step, v.first_value AS base_eval_loss,
               v.last_value AS last_eval_loss, t.last_value AS last_train_loss, t.last_step AS last_step
        FROM run r
        JOIN job j ON j.job_id = r.run_id
        LEFT JOIN metric_summary v ON v.run_id = r.run_id AND v.name = 'eval/loss'
        LEFT JOIN metric_summary t ON t.run_id = r.run_id AND t.name = 'train/loss';
        """,
    ),
    (
        "0002 the best step is a trained one",
        """
        UPDATE run SET facts = json_merge_patch(
            facts, json_object('best_step', v.min_step, 'best_eval_loss', v.min)
        )
        FROM metric_summary v WHERE v.run_id = run.run_id AND v.name = 'eval/loss' AND v.min_step > 0;

        CREATE OR REPLACE VIEW run_overview AS
        SELECT r.*, j.status, j.attempt, j.device, j.after_jobs, j.started_at, j.ended_at, j.heartbeat_at,
               j.progress_done, j.progress_total, j.progress_unit, j.progress_message, j.eta_seconds,
               j.cancel_requested_at, j.error,
               (r.facts ->> 'best_eval_loss')::DOUBLE AS best_eval_loss,
               (r.facts ->> 'best_step')::BIGINT AS best_step,
               CASE WHEN v.first_step = 0 THEN v.first_value END AS base_eval_loss,
               v.last_value AS last_eval_loss, t.last_value AS last_train_loss, t.last_step AS last_step
        FROM run r
        JOIN job j ON j.job_id = r.run_id
        LEFT JOIN metric_summary v ON v.run_id = r.run_id AND v.name = 'eval/loss'
        LEFT JOIN metric_summary t ON t.run_id = r.run_id AND t.name = 'train/loss';
        """,
    ),
    (
        "0003 versions and signals",
        """
        ALTER TABLE dataset ADD COLUMN parent_id VARCHAR;     -- the version that the recipe was run on
        ALTER TABLE dataset ADD COLUMN recipe JSON;           -- as store.config.recipe; null for an import
        ALTER TABLE dataset ADD COLUMN fates JSON;            -- {"kept", "changed", "dropped", "added"}: rows
        ALTER TABLE dataset ADD COLUMN split_by VARCHAR DEFAULT 'random'; -- Split
        ALTER TABLE dataset ADD COLUMN split_column VARCHAR;  -- store.config.filters names it

        CREATE TABLE signal (                  -- a sidecar that is there, whole
            fingerprint VARCHAR NOT NULL,      -- of the rows that were measured
            name VARCHAR NOT NULL,             -- store.catalog.signals.GROUPS
            version INTEGER NOT NULL,
            options JSON NOT NULL,             -- model, max_length, … it was measured with
            row_count BIGINT NOT NULL,         -- measured; fewer than the data set's where it is a sample
            reused_count BIGINT NOT NULL,      -- taken over from the version before
            figures JSON NOT NULL,             -- column -> {"n", …}, docs/architecture.md
            seconds DOUBLE NOT NULL,
            computed_at TIMESTAMP NOT NULL,
            PRIMARY KEY (fingerprint, name)
        );

        CREATE TABLE recipe (                  -- recipes that somebody saved
            recipe_id VARCHAR PRIMARY KEY,
            name VARCHAR NOT NULL UNIQUE,
            steps JSON NOT NULL,
            created_at TIMESTAMP NOT NULL
        );

        CREATE TABLE slice (                   -- rows that somebody named
            dataset_id VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            filter JSON NOT NULL,              -- store.config.filters.Filter
            created_at TIMESTAMP NOT NULL,
            PRIMARY KEY (dataset_id, name)
        );
        """,
    ),
    (
        "0004 evaluations",
        """
        CREATE TABLE evaluation (              -- one that has finished; while it works it is a job
            evaluation_id VARCHAR PRIMARY KEY, -- the job_id of its job
            name VARCHAR NOT NULL,
            notes VARCHAR NOT NULL,
            model VARCHAR NOT NULL,            -- of a run: its base model
            run_id VARCHAR,                    -- null for a model that no run made
            checkpoint VARCHAR NOT NULL,       -- tuned | best | newest | base
            dataset_id VARCHAR NOT NULL,
            dataset_name VARCHAR NOT NULL,     -- as it was when it was asked for
            data_fingerprint VARCHAR NOT NULL, -- of the rows: row ids mean the same under the same one
            part VARCHAR NOT NULL,             -- train | validation | test | all
            n BIGINT NOT NULL,                 -- rows
            config JSON NOT NULL,              -- EvaluateConfig
            figures JSON NOT NULL,             -- a document for each metric: `scored`
            details JSON NOT NULL,             -- counts, notices, probes, seconds, device
            created_at TIMESTAMP NOT NULL
        );
        """,
    ),
    (
        "0005 verdicts as alerts",
        """
        ALTER TABLE alert ADD COLUMN kind VARCHAR; -- of a verdict, once a job: store.queries.alerts.KINDS
        ALTER TABLE alert ADD COLUMN step BIGINT;  -- that it is about
        """,
    ),
    (
        "0006 columns that nothing reads",
        """
        CREATE OR REPLACE VIEW run_overview AS
        SELECT r.*, j.status, j.attempt, j.device, j.after_jobs, j.started_at, j.ended_at,
               j.progress_done, j.progress_total, j.progress_unit, j.progress_message, j.eta_seconds,
               j.cancel_requested_at, j.error,
               (r.facts ->> 'best_eval_loss')::DOUBLE AS best_eval_loss,
               (r.facts ->> 'best_step')::BIGINT AS best_step,
               CASE WHEN v.first_step = 0 THEN v.first_value END AS base_eval_loss,
               v.last_value AS last_eval_loss, t.last_value AS last_train_loss, t.last_step AS last_step
        FROM run r
        JOIN job j ON j.job_id = r.run_id
        LEFT JOIN metric_summary v ON v.run_id = r.run_id AND v.name = 'eval/loss'
        LEFT JOIN metric_summary t ON t.run_id = r.run_id AND t.name = 'train/loss';

        ALTER TABLE job DROP COLUMN heartbeat_at;
        ALTER TABLE metric_summary DROP COLUMN sum_squares;
        """,
    ),
    (
        "0007 people",
        """
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
        """,
    ),
    (
        "0008 activity",
        """
        CREATE SEQUENCE activity_number START 1;
        CREATE TABLE activity (                -- who did what; appended to alone, no statement changes a row
            activity_id BIGINT PRIMARY KEY,
            done_at TIMESTAMP NOT NULL,
            person_id VARCHAR NOT NULL,
            person_name VARCHAR NOT NULL,      -- as it was, as is the subject's
            command VARCHAR NOT NULL,          -- store.catalog.actions.ACTIONS
            subject_kind VARCHAR NOT NULL,     -- store.documents.tables.activity.SubjectKind
            subject_id VARCHAR NOT NULL,
            subject_name VARCHAR NOT NULL,
            detail VARCHAR NOT NULL,
            comment_id VARCHAR                 -- of a comment on the subject; null for all else
        );

        CREATE TABLE comment (
            comment_id VARCHAR PRIMARY KEY,
            subject_kind VARCHAR NOT NULL,     -- run | row | evaluation | comparison
            subject_id VARCHAR NOT NULL,       -- as store.queries.comments names it
            person_id VARCHAR NOT NULL,
            person_name VARCHAR NOT NULL,      -- as it was
            text VARCHAR NOT NULL,             -- empty once it is deleted
            mentions JSON NOT NULL,            -- [{"person_id", "name"}] of those whom it names by @
            written_at TIMESTAMP NOT NULL,
            edited_at TIMESTAMP,
            deleted_at TIMESTAMP
        );

        ALTER TABLE job ADD COLUMN created_by VARCHAR;        -- person_id; null: nobody knows
        ALTER TABLE run ADD COLUMN created_by VARCHAR;
        ALTER TABLE dataset ADD COLUMN created_by VARCHAR;
        ALTER TABLE evaluation ADD COLUMN created_by VARCHAR;

        CREATE OR REPLACE VIEW run_overview AS
        SELECT r.*, j.status, j.attempt, j.device, j.after_jobs, j.started_at, j.ended_at,
               j.progress_done, j.progress_total, j.progress_unit, j.progress_message, j.eta_seconds,
               j.cancel_requested_at, j.error,
               (r.facts ->> 'best_eval_loss')::DOUBLE AS best_eval_loss,
               (r.facts ->> 'best_step')::BIGINT AS best_step,
               CASE WHEN v.first_step = 0 THEN v.first_value END AS base_eval_loss,
               v.last_value AS last_eval_loss, t.last_value AS last_train_loss, t.last_step AS last_step
        FROM run r
        JOIN job j ON j.job_id = r.run_id
        LEFT JOIN metric_summary v ON v.run_id = r.run_id AND v.name = 'eval/loss'
        LEFT JOIN metric_summary t ON t.run_id = r.run_id AND t.name = 'train/loss';

        -- A name is its owner's alone, which a constraint on columns that may be null can't say: the writes
        -- of store.queries.data.saved hold it.
        CREATE TABLE saved_recipe (
            recipe_id VARCHAR PRIMARY KEY,
            name VARCHAR NOT NULL,
            steps JSON NOT NULL,
            created_at TIMESTAMP NOT NULL,     -- of this revision
            created_by VARCHAR,                -- the owner; null: nobody knows
            saved_by VARCHAR NOT NULL,         -- the name of who saved this revision; empty: nobody knows
            shared BOOLEAN NOT NULL,           -- else its owner's alone
            revision INTEGER NOT NULL          -- 1, and one more each time it is saved anew
        );
        INSERT INTO saved_recipe SELECT recipe_id, name, steps, created_at, NULL, '', true, 1 FROM recipe;
        DROP TABLE recipe;
        ALTER TABLE saved_recipe RENAME TO recipe;

        CREATE TABLE saved_slice (
            slice_id VARCHAR PRIMARY KEY,
            dataset_id VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            filter JSON NOT NULL,
            created_at TIMESTAMP NOT NULL,
            created_by VARCHAR,
            saved_by VARCHAR NOT NULL,
            shared BOOLEAN NOT NULL,
            revision INTEGER NOT NULL
        );
        INSERT INTO saved_slice
        SELECT 'slice-' || md5(dataset_id || '/' || name), dataset_id, name, filter, created_at,
               NULL, '', true, 1
        FROM slice;
        DROP TABLE slice;
        ALTER TABLE saved_slice RENAME TO slice;
        """,
    ),
    (
        "0009 rating rounds",
        """
        CREATE TABLE rating_round (
            round_id VARCHAR PRIMARY KEY,      -- the job_id of the job that gathered its answers
            name VARCHAR NOT NULL,
            notes VARCHAR NOT NULL,
            protocol VARCHAR NOT NULL,         -- pairwise | rank | rubric | pass_fail | correction
            config JSON NOT NULL,              -- RoundConfig
            systems JSON NOT NULL,             -- RoundSystem: whose answers; the places are their numbers
            state VARCHAR NOT NULL,            -- open | closed
            dataset_id VARCHAR,                -- of the prompts; null for a round from elsewhere
            item_count INTEGER NOT NULL,
            details JSON NOT NULL,             -- RoundDetails
            created_by VARCHAR NOT NULL,
            created_by_name VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL,
            closed_at TIMESTAMP,
            closed_by_name VARCHAR
        );
        CREATE TABLE rating_item (
            round_id VARCHAR NOT NULL,
            item_id INTEGER NOT NULL,
            row_id BIGINT,                     -- of the data set
            prompt JSON NOT NULL,              -- turns: role, content
            reference VARCHAR,
            answers VARCHAR[] NOT NULL,        -- by the numbers of the models
            named BOOLEAN NOT NULL,            -- an answer names a model
            better INTEGER,                    -- of a gold item: which answer is known to be better
            weight DOUBLE NOT NULL,            -- 1 / the chance to be chosen, where not all had the same
            PRIMARY KEY (round_id, item_id)
        );
        CREATE TABLE rating_task (
            task_id VARCHAR PRIMARY KEY,       -- random: it says nothing of item and rater
            round_id VARCHAR NOT NULL,
            item_id INTEGER NOT NULL,
            person_id VARCHAR NOT NULL,
            person_name VARCHAR NOT NULL,
            systems INTEGER[] NOT NULL,        -- in the order in which they are shown
            purpose VARCHAR NOT NULL,          -- first | repeat | gold | adjudication
            repeat_of VARCHAR,                 -- the task that is shown again
            place INTEGER NOT NULL,            -- of the rater's tasks in this round
            given_at TIMESTAMP NOT NULL
        );
        CREATE INDEX rating_task_round ON rating_task (round_id);
        CREATE TABLE rating (                  -- append only: a rater who thinks again adds a revision
            task_id VARCHAR NOT NULL,
            revision INTEGER NOT NULL,
            round_id VARCHAR NOT NULL,
            answer JSON NOT NULL,              -- RatingAnswer
            comment VARCHAR NOT NULL,
            seconds DOUBLE NOT NULL,           -- from the showing to the answer
            rated_at TIMESTAMP NOT NULL,
            PRIMARY KEY (task_id, revision)
        );
        CREATE INDEX rating_round_id ON rating (round_id);
        CREATE TABLE rating_left_out (         -- raters whose ratings don't count
            round_id VARCHAR NOT NULL,
            person_id VARCHAR NOT NULL,
            by_name VARCHAR NOT NULL,
            left_out_at TIMESTAMP NOT NULL,
            PRIMARY KEY (round_id, person_id)
        );
        """,
    ),
    (
        "0010 conversations",
        """
        CREATE TABLE conversation (
            conversation_id VARCHAR PRIMARY KEY,
            title VARCHAR NOT NULL,            -- empty until something is said
            settings JSON NOT NULL,            -- store.config.talk_config.TalkSettings
            made_by VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL,
            changed_at TIMESTAMP NOT NULL      -- when something was last said
        );

        CREATE TABLE turn (                    -- what a person said; a tree within its conversation
            turn_id VARCHAR PRIMARY KEY,
            conversation_id VARCHAR NOT NULL,
            parent_id VARCHAR,                 -- the turn before it; null at the beginning
            prompt VARCHAR NOT NULL,
            settings JSON NOT NULL,            -- as they were
            said_by VARCHAR NOT NULL,
            said_at TIMESTAMP NOT NULL
        );

        CREATE TABLE turn_answer (             -- what a model answered, as far as it came
            turn_id VARCHAR NOT NULL,
            place INTEGER NOT NULL,            -- of the model among those of the turn's settings
            label VARCHAR NOT NULL,            -- as the model was called
            model JSON NOT NULL,               -- TalkModel without its sampling
            text VARCHAR NOT NULL,
            tokens JSON NOT NULL,              -- TalkToken, each with its probability and alternatives
            reason VARCHAR NOT NULL,           -- end | stop | length | stopped | failed
            figures JSON,                      -- TalkFigures; null where it failed or was stopped
            error JSON,
            ended_at TIMESTAMP NOT NULL,
            PRIMARY KEY (turn_id, place)
        );

        CREATE TABLE kept_row (                -- rows that people made of answers
            kept_id VARCHAR PRIMARY KEY,
            conversation_id VARCHAR NOT NULL,  -- it may be deleted
            turn_id VARCHAR NOT NULL,
            kind VARCHAR NOT NULL,             -- test | training
            messages JSON NOT NULL,            -- the last one is the answer as it should be
            corrected BOOLEAN NOT NULL,        -- a person changed what the model said
            kept_by VARCHAR NOT NULL,
            kept_at TIMESTAMP NOT NULL,
            dataset_name VARCHAR,              -- that it went into; null while it waits
            job_id VARCHAR                     -- whose result that is
        );
        """,
    ),
)
