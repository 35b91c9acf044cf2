"""The ``models`` router: P(success) of each of many models on a prompt, calibrated."""
