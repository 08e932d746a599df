"""A kubeconfig file: its current context as an Access."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from flowobs.identity import yamltext
from flowobs.kubernetes.access import Access, AccessError, Data

_MAX_BYTES = 4 << 20


class _Fields(msgspec.Struct, rename="kebab"):
    """A part of the file. Fields that we do not know are other programs' business."""


class _Cluster(_Fields):
    server: str = ""
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _User(_Fields):
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    username: str | None = None
    impersonate: str | None = msgspec.field(default=None, name="as")
    exec: Any = None
    auth_provider: Any = None


class _Context(_Fields):
    cluster: str = ""
    user: str = ""


class _NamedCluster(_Fields):
    name: str
    cluster: _Cluster


class _NamedUser(_Fields):
    name: str
    user: _User | None = None


class _NamedContext(_Fields):
    name: str
    context: _Context


class _Config(_Fields):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


_UNSUPPORTED: tuple[tuple[str, Callable[[_User], object], str], ...] = (
    ("exec", lambda u: u.exec, "runs a program for its credentials"),
    ("auth-provider", lambda u: u.auth_provider, "uses an auth-provider"),
    ("username", lambda u: u.username, "has a password"),
    ("as", lambda u: u.impersonate, "acts as another user"),
)


def read(path: Path) -> Access:
    """The current context of the file. Raises AccessError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AccessError(f"{path}: cannot be read: {reason}; name a kubeconfig file") from None
    if len(data) > _MAX_BYTES:
        raise AccessError(f"{path}: larger than {_MAX_BYTES >> 20} MiB; name a kubeconfig file")
    try:
        value, _ = yamltext.parse(data.decode("utf-8-sig"))
        config = msgspec.convert(value, _Config, strict=False)
    except UnicodeDecodeError:
        raise AccessError(f"{path}: not text; name a kubeconfig file") from None
    except yamltext.YamlError as error:
        raise AccessError(f"{path}:{error.line}: {error.reason}") from None
    except msgspec.ValidationError as error:
        raise AccessError(
            f"{path}: not a kubeconfig: {error}; kubectl config view shows it"
        ) from None
    return _access(path, config)


def _access(path: Path, config: _Config) -> Access:
    current = config.current_context
    if not current:
        raise AccessError(
            f"{path}: has no current-context; choose one with kubectl config use-context"
        )
    context = _named(path, "context", current, config.contexts).context
    named = _named(path, "cluster", context.cluster, config.clusters)
    cluster = named.cluster
    user = _User()
    if context.user:
        user = _named(path, "user", context.user, config.users).user or user
    for name, given, what in _UNSUPPORTED:
        if given(user):
            raise AccessError(
                f"{path}: user {context.user} {what} ({name}), which is not supported; "
                "make a user with a token (kubectl create token) or a client certificate"
            )
    if cluster.proxy_url:
        raise AccessError(
            f"{path}: cluster {named.name} has a proxy-url, which is not supported; "
            "name an address that can be reached directly"
        )
    if cluster.insecure_skip_tls_verify and (
        cluster.certificate_authority or cluster.certificate_authority_data
    ):
        raise AccessError(
            f"{path}: cluster {named.name} has a CA and insecure-skip-tls-verify; "
            "leave out one of them"
        )
    folder = path.parent
    return Access(
        server=cluster.server.rstrip("/"),
        cluster=named.name,
        ca=_data(
            path,
            folder,
            "certificate-authority",
            cluster.certificate_authority,
            cluster.certificate_authority_data,
        ),
        server_name=cluster.tls_server_name,
        verify=not cluster.insecure_skip_tls_verify,
        token="" if user.token_file else user.token or "",
        token_file=folder / user.token_file if user.token_file else None,
        certificate=_data(
            path,
            folder,
            "client-certificate",
            user.client_certificate,
            user.client_certificate_data,
        ),
        key=_data(path, folder, "client-key", user.client_key, user.client_key_data),
    ).checked()


_NamedT = TypeVar("_NamedT", _NamedCluster, _NamedUser, _NamedContext)


def _named(path: Path, what: str, name: str, entries: Sequence[_NamedT] | None) -> _NamedT:
    for entry in entries or ():
        if entry.name == name:
            return entry
    raise AccessError(f"{path}: there is no {what} {name or 'without a name'}; add it to the file")


def _data(path: Path, folder: Path, name: str, file: str | None, data: str | None) -> Data | None:
    """What is given in place wins over a file; a file's path is relative to the kubeconfig's."""
    if data:
        try:
            return base64.b64decode("".join(data.split()), validate=True)
        except binascii.Error:
            raise AccessError(
                f"{path}: {name}-data is not base64; write the PEM text in it"
            ) from None
    return folder / file if file else None
