"""The words that everybody uses: what comes over the wire,
what is kept, what can go wrong, and the doors to the outside.
"""
