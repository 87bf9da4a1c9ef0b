"""Timers, what they count, and how long documents are kept."""
