"""The configuration of a gateway: its keys, its file and how it is read."""
