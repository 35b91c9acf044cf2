"""What ``figures.py`` prints, by subject: each ``measure(settings)`` yields figures as it goes."""
