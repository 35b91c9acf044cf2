"""Makes a default router for many languages: a table of pieces and a head that was taught by judges
of difficulty."""
