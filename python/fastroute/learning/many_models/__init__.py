"""Tunes a choice among more than two models; ``fastroute.learning`` is its face.

``run`` learns, certifies and judges, ``result`` holds what was found, and ``words`` says it.
"""
