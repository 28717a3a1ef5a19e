"""What people's ratings say: who is better and how surely, who agrees, how many more ratings it takes."""
