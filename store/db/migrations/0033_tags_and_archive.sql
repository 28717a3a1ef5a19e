-- Tags of a run, and whether it is archived: left out of lists until it is asked for, and otherwise as before.
ALTER TABLE run ADD COLUMN tags VARCHAR[] DEFAULT [];
ALTER TABLE run ADD COLUMN archived BOOLEAN DEFAULT false;

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
