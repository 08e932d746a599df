"""Kubernetes: what its API server says of pods, services and nodes, as names for addresses."""
