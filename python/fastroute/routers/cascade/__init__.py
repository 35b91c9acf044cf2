"""The ``cascade`` router: a fast router, and a slow one where the fast one is uncertain.

``router`` calls both within the latency budget (``latency_estimate``). ``band`` decides which
prompts are sent on, and combines the two win rates. ``artifact`` saves and loads a calibrated one.
"""
