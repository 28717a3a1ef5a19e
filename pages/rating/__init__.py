"""The screen of rating rounds: people say which answers are better, and what that comes to."""
