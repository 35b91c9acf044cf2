"""Comparing two answers without seeing whose they are: the order, the keys, and a page for it.

Where pairs come from and where verdicts go is the business of whoever has a ``Pairs``.
"""
