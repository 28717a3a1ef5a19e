"""Quality signals of rows, one module per group: texts, embeddings, labels, personal data and others."""
