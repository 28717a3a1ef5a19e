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
