"""The page at ``/`` and the data behind it."""
