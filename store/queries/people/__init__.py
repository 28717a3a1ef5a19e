"""People with an account: who they are, how and where they sign in. For the engine alone."""
