"""HTTP's edge: what every function need not know."""
