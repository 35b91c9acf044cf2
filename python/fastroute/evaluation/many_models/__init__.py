"""Evaluation of choices among many models, on graded prompts with prices."""
