"""Rating rounds: tasks and raters, imported ratings, data sets built from ratings, and rating statistics."""
