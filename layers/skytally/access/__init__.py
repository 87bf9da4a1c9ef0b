"""Who calls, how often, and by which keys and credentials."""
