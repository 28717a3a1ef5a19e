"""The screen of the activity: who did what."""
