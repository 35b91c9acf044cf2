"""From an export of own traffic to a router with a guarantee; ``fastroute.learning`` is its face.

``sources``, ``records``, ``export``, ``columns`` and ``grades`` read the file. ``groups``, ``seen``
and ``split`` keep near-duplicates together and known prompts out. ``head`` and ``selection`` learn
and choose a candidate, ``guarantee`` finds its threshold, ``cascade`` compares a cascade, ``run``
does all of it, and ``result``, ``words``, ``page`` and ``output`` say and save what was found.
"""
