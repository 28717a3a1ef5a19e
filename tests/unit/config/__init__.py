"""What may be said on forms, in files and in commands, and the tables that say what there is."""
