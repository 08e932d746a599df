"""``python -m tests.vm`` (as root): all kernels, and their table into docs/kernels.md.

With names of series (``5.10``): everything on these, and the table to stdout.
"""

from __future__ import annotations

import sys

from tests.vm import boot, conformance, kernel, table
from tests.vm.found import LOADERS

PAGE = {
    "5.10": ("core", "bcc", "bcc-kprobes"),
    kernel.DEFAULT: ("core", "bcc", "adapters", "kprobes"),
    "6.12": ("core",),
}
"""The columns of each kernel: the more there are, the less they are read."""

if __name__ == "__main__":
    if sys.argv[1:]:
        found = [boot.run(LOADERS, each) for each in sys.argv[1:]]
    else:
        found = [boot.run(loaders, each) for each, loaders in PAGE.items()]
        found.append(conformance.main(list(LOADERS)))
        table.write(table.capabilities(found))
    print(table.capabilities(found))
