"""The demo: a small cluster of network namespaces with real servers and clients, watched by a real relay and agent."""
