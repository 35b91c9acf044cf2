"""HTTP between clients, the gateway and providers."""
