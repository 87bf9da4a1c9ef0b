"""One module a backend of a port: <port>_<backend>.py. Adapters know nothing of one another."""
