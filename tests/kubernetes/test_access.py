"""Access: kubeconfig files and what a pod is given."""

from __future__ import annotations

import base64
import ssl
import subprocess
from pathlib import Path

import pytest

from flowobs.kubernetes import access, kubeconfig
from flowobs.kubernetes.access import Access, AccessError, Credentials
from tests.kubernetes import things
from tests.kubernetes.fake_api import TOKEN, FakeApi
from tests.kubernetes.fakes import running, until

CONFIG = """
apiVersion: v1
kind: Config
preferences: {}
current-context: dev
contexts:
- name: dev
  context: {cluster: demo, user: me, namespace: shop}
- name: other
  context: {cluster: gone, user: nobody}
clusters:
- name: demo
  cluster: {server: "https://127.0.0.1:6443/", certificate-authority: ca.crt}
users:
- name: me
  user: {token: "12345"}
"""


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA that is its own server's certificate, and a second one."""
    folder = tmp_path_factory.mktemp("pki")
    for name in ("ca", "second"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
             "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.crt"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    return folder


def write(pki: Path, folder: Path, text: str) -> Path:
    for name in ("ca.crt", "ca.key", "second.key"):
        (folder / name).write_bytes((pki / name).read_bytes())
    (folder / "config").write_text(text)
    return folder / "config"


def test_the_current_context_with_files_beside_it(pki: Path, tmp_path: Path) -> None:
    found = kubeconfig.read(write(pki, tmp_path, CONFIG))
    assert found == Access(
        server="https://127.0.0.1:6443", cluster="demo", ca=tmp_path / "ca.crt", token="12345"
    )
    assert "12345" not in repr(found)


def test_data_in_place_wins_over_files(pki: Path, tmp_path: Path) -> None:
    pem = (pki / "ca.crt").read_bytes()
    key = (pki / "ca.key").read_bytes()
    data = base64.b64encode(pem).decode()
    user = (
        f"{{client-certificate-data: {data}, client-certificate: missing,"
        f" client-key-data: {base64.b64encode(key).decode()}}}"
    )
    text = CONFIG.replace('{token: "12345"}', user)
    text = text.replace("ca.crt}", f"missing, certificate-authority-data: {data}}}")
    found = kubeconfig.read(write(pki, tmp_path, text))
    assert (found.ca, found.certificate, found.key) == (pem, pem, key)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("current-context: dev", "", "no current-context; choose one with"),
        ("current-context: dev", "current-context: prod", "there is no context prod"),
        ("current-context: dev", "current-context: other", "there is no cluster gone"),
        ('token: "12345"', "exec: {command: aws}", "runs a program for its credentials (exec)"),
        ('token: "12345"', "auth-provider: {name: gcp}", "uses an auth-provider"),
        ('token: "12345"', "username: a, password: b", "has a password"),
        ('token: "12345"', "token: a, as: admin", "acts as another user"),
        ('token: "12345"', "tokenFile: missing", "missing: cannot be read: no such file"),
        ('token: "12345"', "client-certificate: ca.crt", "without its key: give both"),
        (
            'token: "12345"',
            "client-certificate: ca.crt, client-key: second.key",
            "must be PEM and belong together",
        ),
        ("ca.crt}", "ca.crt, proxy-url: 'http://p'}", "has a proxy-url"),
        ("ca.crt}", "ca.crt, insecure-skip-tls-verify: true}", "leave out one of them"),
        ("certificate-authority: ca.crt", "certificate-authority-data: '%%'", "is not base64"),
        ("certificate-authority: ca.crt", "certificate-authority-data: aGk=", "give it as PEM"),
        ("https://127.0.0.1:6443/", "127.0.0.1:6443", "write it as https://host:port"),
        ("https://127.0.0.1:6443/", "http://192.0.2.1", "not sent unencrypted"),
        ("contexts:\n", "contexts: 5\nx:\n", "not a kubeconfig"),
        ("clusters:\n", "clusters: [\n", "config:12: not YAML"),
    ],
)
def test_what_cannot_be_used_is_said(
    pki: Path, tmp_path: Path, old: str, new: str, why: str
) -> None:
    assert old in CONFIG
    path = write(pki, tmp_path, CONFIG.replace(old, new))
    with pytest.raises(AccessError) as raised:
        kubeconfig.read(path)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="no such file or directory; name a kubeconfig file"):
        kubeconfig.read(tmp_path / "none")


def test_in_a_pod(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    (tmp_path / "token").write_text("abc\n")
    given = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = access.in_cluster(given, tmp_path)
    assert found.server == "https://[fd00::1]:443"
    assert Credentials(found).current()[0] == "abc"
    with pytest.raises(AccessError, match="name a kubeconfig file with --kubeconfig"):
        access.in_cluster({}, tmp_path)


def test_files_are_read_again_when_it_is_time(pki: Path, tmp_path: Path) -> None:
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("one")
    ca.write_bytes((pki / "ca.crt").read_bytes())
    now = 0.0
    given = Access(server="https://127.0.0.1", ca=ca, token_file=token)
    credentials = Credentials(given, 60, lambda: now)
    _, first = credentials.current()
    token.write_text("two")
    assert credentials.current() == ("one", first)
    now = 60.0
    assert credentials.current() == ("two", first)
    ca.write_bytes((pki / "second.crt").read_bytes())
    token.unlink()
    credentials.expire()
    assert credentials.current() == ("two", first), "while one is missing, both stay"
    token.write_text("three")
    credentials.expire()
    text, second = credentials.current()
    assert text == "three" and isinstance(second, ssl.SSLContext) and second is not first


async def test_tls_with_a_client_certificate_and_a_ca_that_changes(
    pki: Path, tmp_path: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
    tls.load_cert_chain(pki / "ca.crt", pki / "ca.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    ca = tmp_path / "ca.crt"
    ca.write_bytes((pki / "second.crt").read_bytes())
    async with FakeApi(tls=tls) as api:
        api.put("pods", things.pod("a"))
        given = Access(
            server=api.url, ca=ca, token=TOKEN,
            certificate=pki / "ca.crt", key=pki / "ca.key",
        )  # fmt: skip
        async with running(api, given=given.checked()) as (reflector, seen):
            await until(lambda: "certificate verify failed" in reflector.freshness.problem.lower())
            ca.write_bytes((pki / "ca.crt").read_bytes())
            await until(lambda: seen.names == ["a"])
