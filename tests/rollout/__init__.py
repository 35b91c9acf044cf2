"""Tests of canary, drift and what watches the journal for them."""
