"""Where the files are that are not Python: in the installed package first, then in the checkout.

The wheel holds ``probes/`` (sources, headers, ``build/*.bpf.o``) as ``flowobs/_probes`` and
``ui/dist`` as ``flowobs/_web``.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent


class AssetError(RuntimeError):
    """Files that belong to flowobs are not where they should be; says what brings them back."""


def probe_sources() -> Path:
    """The folder with ``*.bpf.c`` and their headers."""
    for folder in (_PACKAGE / "_probes", _CHECKOUT / "probes"):
        if (folder / "flow.bpf.c").is_file():
            return folder
    raise AssetError(
        "the probes' sources are missing from this installation: install flowobs again"
    )


def probe_objects() -> Path | None:
    """The folder with the compiled ``*.bpf.o``; None before ``make -C probes``."""
    for folder in (_PACKAGE / "_probes" / "build", _CHECKOUT / "probes" / "build"):
        if (folder / "flow.bpf.o").is_file():
            return folder
    return None


def web() -> Path | None:
    """The folder with the built web app's ``index.html``; None where nobody has built it."""
    for folder in (_PACKAGE / "_web", _CHECKOUT / "ui" / "dist"):
        if (folder / "index.html").is_file():
            return folder
    return None
