"""What people said as tables: ratings, grades, votes, and the clusters that they come in."""
