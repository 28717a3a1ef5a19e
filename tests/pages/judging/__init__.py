"""The screens that compare runs and judge models."""
