"""What users install: the wheel, in a new virtual environment, run from another folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowobs.demo import ready

ROOT = Path(__file__).parent.parent
HEAVY = ("chdb", "clickhouse_connect", "pandas", "pyarrow", "fastapi", "uvicorn")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, code: int | None = 0) -> str:
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder))
    run(sys.executable, *build, cwd=ROOT)
    return next(folder.glob("*.whl"))


def install(folder: Path, what: str) -> Path:
    """A new environment with the versions of the lock; its programs' folder."""
    pins = re.findall(
        r"^([\w.-]+==[\w.]+.*?) ?\\?$", (ROOT / "requirements.lock").read_text(), re.M
    )
    (folder / "constraints.txt").write_text("\n".join(pins))
    run(sys.executable, "-m", "venv", "venv", cwd=folder)
    pip = (folder / "venv/bin/python", "-m", "pip", "install", "--quiet")
    run(*pip, "--disable-pip-version-check", "-c", "constraints.txt", what, cwd=folder)
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("base"), str(wheel))


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("full"), f"{wheel}[relay]")


def test_the_wheel_carries_probes_and_web_app(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        record = file.read(next(n for n in names if n.endswith("/RECORD"))).decode()

    listed = {line.split(",")[0] for line in record.splitlines()}
    assert listed == names
    sources = {path.name for path in (ROOT / "probes").glob("*.[ch]")}
    assert {f"flowobs/_probes/{name}" for name in sources} <= names
    objects = {f"{name.removesuffix('.c')}.o" for name in sources if name.endswith(".bpf.c")}
    assert {f"flowobs/_probes/build/{name}" for name in objects} <= names
    assert "flowobs/_web/index.html" in names
    assert any(re.match(r"flowobs/_web/assets/.*\.js$", name) for name in names)
    assert {n.rsplit("/", 1)[1] for n in names if "/licenses/" in n} == {
        "LICENSE",
        "LICENSE-GPL-2.0",
        "NOTICE",
    }


def test_the_wheel_holds_two_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        tops = {name.split("/")[0] for name in file.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"flowobs", "relay"}


def test_base_install_is_slim_and_runs(base: Path, tmp_path: Path) -> None:
    assert "Usage: flows" in run(base / "flows", "--help", cwd=tmp_path)
    assert re.match(r"flowobs \d", run(base / "flowobs", "--version", cwd=tmp_path))
    found = json.loads(run(base / "flowobs", "doctor", "--json", cwd=tmp_path, code=None))
    assert found
    script = f"from importlib.util import find_spec; print([m for m in {HEAVY} if find_spec(m)])"
    assert run(base / "python", "-c", script, cwd=tmp_path).strip() == "[]"


def test_base_install_says_what_the_relay_needs(base: Path, tmp_path: Path) -> None:
    done = subprocess.run([base / "flowobs-relay"], cwd=tmp_path, text=True, capture_output=True)

    assert done.returncode in (1, 2)
    assert "flowobs[relay]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def relay(full: Path, tmp_path: Path) -> Iterator[str]:
    ports = ready.free_ports({"http": 18080, "listen": 14243})
    command = [full / "flowobs-relay", f"--store=chdb://{tmp_path}/store"]
    command += [f"--{name}=127.0.0.1:{port}" for name, port in ports.items()]
    log = tmp_path / "relay.log"
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out) as process,
    ):
        url = f"http://127.0.0.1:{ports['http']}"
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def test_installed_relay_serves_the_web_app(relay: str, base: Path, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{relay}/", timeout=60) as page:
        assert page.headers["Content-Type"].startswith("text/html")
        assert b"<script" in page.read()
    with urllib.request.urlopen(f"{relay}/api/v1/status", timeout=60) as answer:
        assert json.load(answer)["store"]["healthy"] is True
    assert "healthy" in run(base / "flows", "status", "--server", relay, cwd=tmp_path)
