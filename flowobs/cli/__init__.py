"""The terminal: `flows` and `flowobs`. Nothing but click is imported until a command runs."""
