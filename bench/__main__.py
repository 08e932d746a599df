"""`python -m bench [NAME ...] [--json]`: runs benchmarks and prints their figures."""

from __future__ import annotations

import argparse
import json
import signal
import sys

import bench
from bench import Figure

HEADER = ("metric", "value", "unit", "ratio", "against")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Runs benchmarks.")
    parser.add_argument("name", nargs="*", help="one of: " + ", ".join(bench.names()))
    parser.add_argument("--json", action="store_true", help="one JSON object per figure")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.name) - set(bench.names()))
    if unknown:
        known = ", ".join(bench.names()) or "none yet"
        asked = " or ".join(unknown)
        print(f"there is no benchmark {asked}; there are: {known}", file=sys.stderr)
        return 2
    # what a benchmark started ends with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = 0
    for name in arguments.name or bench.names():
        try:
            figures = bench.load(name)()
        except Exception as error:  # the others still have something to say
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed = 1
            continue
        lines = map(json.dumps, figures) if arguments.json else table(name, figures)
        print("\n".join(lines), flush=True)
    return failed


def table(name: str, figures: list[Figure]) -> list[str]:
    """A heading and one aligned line per figure."""
    rows = [HEADER, *(cells(figure) for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    return [name, *("  " + "  ".join(row).rstrip() for row in text)]


def cells(figure: Figure) -> tuple[str, ...]:
    value, ratio = figure["value"], figure["ratio"]
    return (
        figure["metric"],
        f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}",
        figure["unit"],
        f"{ratio:.3g}" if ratio is not None else "",
        figure["against"],
    )


if __name__ == "__main__":
    sys.exit(main())
