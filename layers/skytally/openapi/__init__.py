"""The API described: every path, parameter and answer, for programs and as a page."""
