"""The demo's one exception."""


class DemoError(Exception):
    """One sentence and the next step; the command ends with code 1."""
