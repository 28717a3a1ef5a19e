"""Commands by topic: data sets, evaluations, comments, people, and what is brought in and out."""
