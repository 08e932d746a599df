"""``python -m tests.vm`` (as root): all kernels, and their table into docs/kernels.md.

With names of series (``5.10``): these only, and the table to stdout.
"""

from __future__ import annotations

import sys

from tests.vm import boot, conformance, kernel, table
from tests.vm.found import LOADERS

if __name__ == "__main__":
    everything = [*LOADERS, "bcc-kprobes"]
    series = sys.argv[1:] or list(kernel.RELEASES)
    whole = {*sys.argv[1:], kernel.DEFAULT}  # the page shows two columns of the others
    found = [boot.run(everything if each in whole else ["core", "bcc"], each) for each in series]
    if not sys.argv[1:]:
        found.append(conformance.main(everything))
        table.write(table.capabilities(found))
    print(table.capabilities(found))
