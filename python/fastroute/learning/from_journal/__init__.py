"""Learning from a journal: its graded prompts as an export for ``tune``, weighted and forgotten."""
