"""What changes in production, watched from the journal: a canary of a new router, and drift.

``bets`` has the tests, which may be looked at after every conversation; ``canary`` and ``drift``
decide by them; ``watch`` reads the journal, and ``states`` keeps them in it: these need its extra.
"""
