"""Results as text, HTML, JSON and figures."""
