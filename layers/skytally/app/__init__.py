"""The parts put together by the settings, and a function as a server's application."""
