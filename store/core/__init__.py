"""What all of the store rests on: folders, ids, errors, rights, registries, and documents of several
topics."""
