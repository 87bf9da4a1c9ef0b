"""One bundle, one vm, once."""
