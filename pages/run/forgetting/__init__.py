"""The tab that shows what a run forgot."""
