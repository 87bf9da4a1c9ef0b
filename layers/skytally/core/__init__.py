"""The core vocabulary: wire records, stored documents, errors, and the ports to outside systems."""
