"""Running a gateway: processes, state, metrics, logs and traces."""
