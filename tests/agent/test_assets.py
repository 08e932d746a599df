from __future__ import annotations

from pathlib import Path

import pytest

from flowobs import assets
from flowobs.agent.features import PROGRAMS


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    package, checkout = tmp_path / "site-packages" / "flowobs", tmp_path / "checkout"
    monkeypatch.setattr(assets, "_PACKAGE", package)
    monkeypatch.setattr(assets, "_CHECKOUT", checkout)
    return package, checkout


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.parent


def test_nothing_is_there(places: tuple[Path, Path]) -> None:
    assert assets.probe_objects() is None
    assert assets.web() is None
    with pytest.raises(assets.AssetError, match="install flowobs again"):
        assets.probe_sources()


def test_the_package_goes_before_the_checkout(places: tuple[Path, Path]) -> None:
    package, checkout = places
    sources = touch(checkout / "probes" / "flow.bpf.c")
    objects = touch(checkout / "probes" / "build" / "flow.bpf.o")
    web = touch(checkout / "ui" / "dist" / "index.html")
    assert (assets.probe_sources(), assets.probe_objects(), assets.web()) == (sources, objects, web)
    sources = touch(package / "_probes" / "flow.bpf.c")
    objects = touch(package / "_probes" / "build" / "flow.bpf.o")
    web = touch(package / "_web" / "index.html")
    assert (assets.probe_sources(), assets.probe_objects(), assets.web()) == (sources, objects, web)


def test_every_program_has_its_source() -> None:
    folder = assets.probe_sources()
    for program in PROGRAMS:
        assert program.name in (folder / program.source).read_text()
