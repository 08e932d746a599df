"""The demo: a small cluster of network namespaces with real servers, watched by a real agent."""
