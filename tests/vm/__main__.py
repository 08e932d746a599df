"""``python -m tests.vm`` (as root): all kernels, and their table into docs/kernels.md.

With names of series (``5.10``): these only, and the table to stdout.
"""

from __future__ import annotations

import sys

from tests.vm import boot, conformance, kernel, table
from tests.vm.found import LOADERS

if __name__ == "__main__":
    loaders = [*LOADERS, "bcc-kprobes"]
    found = [boot.run(loaders, each) for each in sys.argv[1:] or kernel.RELEASES]
    if len(sys.argv) == 1:
        found.append(conformance.main(loaders))
        table.write(table.capabilities(found))
    print(table.capabilities(found))
