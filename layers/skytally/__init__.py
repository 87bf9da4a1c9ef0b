"""skytally: what clouds gave, which cloud breaks jobs, and secrets handed out once."""
