"""flowobs: network observability from the kernel. The agent, the clients and what both share."""

__version__ = "0.1.0"
