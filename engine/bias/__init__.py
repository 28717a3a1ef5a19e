"""Bias checks: what base and tuned model are asked, what the differences come to, the command and the job."""
