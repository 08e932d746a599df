"""Where the API server is and how we show who we are; files are read again as they change."""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MAX_TOKEN = 1 << 16


class AccessError(Exception):
    """We cannot even ask the API server: one sentence with what to do."""


Data = bytes | Path
"""Something given in place, or the file it is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A cluster and our credentials in it. Checked by ``checked``."""

    server: str
    cluster: str = ""
    """The name that endpoints carry."""
    ca: Data | None = None
    server_name: str | None = None
    """Name that the server's certificate is for, where the address is another one."""
    verify: bool = True
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    certificate: Data | None = None
    key: Data | None = field(default=None, repr=False)

    def checked(self) -> Access:
        """Itself. Raises AccessError."""
        parts = urlsplit(self.server)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise AccessError(
                f"{self.server or 'nothing'} is not the address of an API server: "
                "write it as https://host:port"
            )
        secret = self.token or self.token_file or self.certificate
        local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme == "http" and secret and not local:
            raise AccessError(
                f"credentials are not sent unencrypted to {self.server}: use its https address"
            )
        for file in (self.ca, self.token_file, self.certificate, self.key):
            if isinstance(file, Path):
                _read(file)
        self.tls()
        return self

    def tls(self) -> ssl.SSLContext | None:
        """A context made of the files as they are now; None for http. Raises AccessError."""
        if not self.server.startswith("https:"):
            return None
        try:
            if self.ca is None:
                context = ssl.create_default_context()
            else:
                text = _read(self.ca).decode("ascii", "replace")
                context = ssl.create_default_context(cadata=text)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        except ssl.SSLError as error:
            raise AccessError(
                f"the CA of {self.server} is not usable: {_why(error)}; give it as PEM"
            ) from None
        if self.certificate is not None:
            self._load_certificate(context)
        return context

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        assert self.certificate is not None
        if self.key is None:
            raise AccessError("a client certificate without its key: give both")
        # Python reads them from files only: they are in one for this moment, which is ours alone
        with tempfile.NamedTemporaryFile(prefix="flowobs-") as file:
            file.write(_read(self.certificate) + b"\n" + _read(self.key))
            file.flush()
            try:
                context.load_cert_chain(file.name)
            except ssl.SSLError as error:
                raise AccessError(
                    f"the client certificate for {self.server} is not usable: {_why(error)}; "
                    "certificate and key must be PEM and belong together"
                ) from None


def in_cluster(
    environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> Access:
    """The access that Kubernetes gives to a pod. Raises AccessError."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise AccessError(
            "this is not a pod of a cluster (KUBERNETES_SERVICE_HOST is not set): "
            "name a kubeconfig file with --kubeconfig"
        )
    bracketed = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{bracketed}:{port}", ca=folder / "ca.crt", token_file=folder / "token"
    ).checked()


def _read(data: Data) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return data.read_bytes()
    except OSError as error:
        raise AccessError(
            f"{data}: cannot be read: {(error.strerror or str(error)).lower()}; "
            "it is needed to talk to the API server"
        ) from None


def _why(error: ssl.SSLError) -> str:
    return error.reason or str(error) or "it cannot be read"


class Credentials:
    """The token and the TLS context in use. Files are looked at every ``every`` seconds.

    A token's file is replaced about hourly, and what was read from it expires. A file that cannot
    be read or used at the moment leaves what was read before in use.
    """

    def __init__(
        self, access: Access, every: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.access = access
        self.reads = 0
        self._every = every
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._token = ""
        self._content: tuple[bytes, ...] | None = None
        self._next = float("-inf")
        self._complained = ""

    def expire(self) -> None:
        """Read the files again at the next use: the server did not take what we have."""
        self._next = float("-inf")

    def current(self) -> tuple[str, ssl.SSLContext | None]:
        """Token (empty: none) and TLS context (None: no TLS). Raises AccessError the first time."""
        if self._clock() >= self._next:
            try:
                self._renew()
                self._complained = ""
            except AccessError as error:
                if self._content is None:
                    raise
                if str(error) != self._complained:
                    _log.warning("credentials not renewed, those of before stay in use: %s", error)
                    self._complained = str(error)
            self._next = self._clock() + self._every
        return self._token, self._tls

    def _renew(self) -> None:
        access = self.access
        self.reads += 1
        token = access.token
        if access.token_file is not None:
            text = _read(access.token_file)[:_MAX_TOKEN].decode("ascii", "replace").strip()
            if not text.isprintable() or not text:
                raise AccessError(f"{access.token_file}: holds no token; it should be one line")
            token = text
        files = tuple(_read(f) for f in (access.ca, access.certificate, access.key) if f)
        if files != self._content:
            # a new context, so that connections of before are not used again
            self._tls = access.tls()
        self._token, self._content = token, files
