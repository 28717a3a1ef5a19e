"""The pages Team and You, and what each role is shown."""
