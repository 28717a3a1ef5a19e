"""Whether a version passes the gate of an alias: what each check says of its evidence. Pure."""
