"""Tasks in this process, in several, or on Ray (``processes``, ``on_ray``)."""
