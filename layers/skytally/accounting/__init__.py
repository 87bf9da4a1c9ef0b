"""From samples to statements."""
