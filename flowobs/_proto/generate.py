"""Makes this package from proto/: run it from the checkout after a change there (needs
grpcio-tools).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "proto"


def generate(out: Path = HERE) -> None:
    """Write the modules for every .proto file under ``out``.

    Raises SystemExit where protoc refuses one.
    """
    from grpc_tools import protoc

    files = sorted(str(p.relative_to(SOURCES)) for p in SOURCES.rglob("*.proto"))
    arguments = [
        f"-I{SOURCES}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *files,
    ]
    if protoc.main(["protoc", *arguments]):
        raise SystemExit("protoc refused a .proto file: see above")
    for made in out.rglob("*_pb2*.py*"):
        text = made.read_text()
        fixed = text.replace("from flowobs.v1 import", "from flowobs._proto.flowobs.v1 import")
        made.write_text(fixed)
        for folder in made.relative_to(out).parents:
            (out / folder / "__init__.py").touch()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
