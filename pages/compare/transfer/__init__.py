"""Every run on every data set."""
