"""``python -m tests.vm`` (as root): both kernels, and their table into docs/kernels.md."""

from __future__ import annotations

from tests.vm import boot, conformance, table
from tests.vm.found import LOADERS

if __name__ == "__main__":
    text = table.capabilities([boot.run(LOADERS), conformance.main(list(LOADERS))])
    table.write(text)
    print(text)
