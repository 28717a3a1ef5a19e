"""Rating rounds: what is rated by whom, ratings from elsewhere, data sets made of ratings, and their
statistics."""
