"""Benchmarks read from files: RouteLLM's, traffic, and files of many models' scores."""
