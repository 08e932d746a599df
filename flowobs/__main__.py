"""``python -m flowobs``: the ``flowobs`` command."""

from flowobs.cli.entry import flowobs

if __name__ == "__main__":
    flowobs()
