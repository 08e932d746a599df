"""What a relay can be told, with defaults and checks."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class ConfigError(ValueError):
    """The configuration cannot work. One sentence and the next step."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and port, or a unix socket (``path`` set, ``host`` empty)."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``host:port``, ``[v6]:port`` or ``unix:///path``. Raises ConfigError."""
        if text.startswith("unix://"):
            path = text.removeprefix("unix://")
            if not path.startswith("/"):
                raise ConfigError(
                    f"`{text}` is not a socket path; write `unix:///run/flowobs/relay.sock`"
                )
            return cls("", 0, path)
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ConfigError(
                f"`{text}` is not an address; write `127.0.0.1:4243` or `unix:///path`"
            )
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Only processes of this host can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Config:
    """One relay. ``listen`` takes agents (gRPC), ``http`` people and tools."""

    store: str
    retention: str = "3d"
    max_disk: str | None = None
    cluster: str | None = None
    listen: tuple[Address, ...] = (Address("127.0.0.1", 4243),)
    http: Address = Address("127.0.0.1", 8080)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    kubernetes: str = "auto"
    """The cluster to watch: a kubeconfig file, "auto" or "off"."""
    cluster_name: str = ""
    """What that cluster is called; empty: as the kubeconfig file does."""

    def check(self) -> None:
        """Raises ConfigError where options do not fit together."""
        if not self.listen:
            raise ConfigError("no address to take agents on; give --listen")
        if self.cluster is not None and self.store.startswith("chdb:"):
            raise ConfigError(
                "--cluster needs a ClickHouse server; give one of the cluster's with "
                "--store http(s)://user:password@host:port/database"
            )
        if self.http.path:
            raise ConfigError("--http needs a host and a port, such as 127.0.0.1:8080")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("TLS needs both --tls-cert and --tls-key")
        if self.tls_cert is None and not self.insecure:
            for address in (*self.listen, self.http):
                if not address.local:
                    raise ConfigError(
                        f"{address} can be reached from other hosts; give --tls-cert and "
                        "--tls-key, or --insecure to serve it unencrypted"
                    )


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the relay keeps its data: systemd's folder, /var/lib for root, the home otherwise."""
    given = environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.partition(":")[0])  # systemd lists several, separated by colons
    if os.geteuid() == 0:
        return Path("/var/lib/flowobs")
    base = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "flowobs"
