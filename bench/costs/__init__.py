"""What training costs in time and memory: beside others, and beside what the form predicts."""
