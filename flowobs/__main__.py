"""``python -m flowobs``: the ``flowobs`` command."""

from flowobs.cli.flowobs import main

if __name__ == "__main__":
    main()
