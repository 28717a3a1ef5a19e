"""Rating rounds: the rounds, the tasks that raters were dealt, and what they said."""
