"""Quality signals of rows, a module a group: what is measured of texts, embeddings, labels and personal
data."""
