"""The demo's servers, each in its pod's namespace: nginx, redis, dnsmasq and a small service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowobs.cli.processes import python
from flowobs.demo import plan

NGINX_CONF = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    resolver {dns} valid=1s ipv6=off;
    server {{
        listen {http_port};
        listen [::]:{http_port};
        set $api {api};
        location = /healthz {{ return 200; }}
        location / {{ proxy_pass http://$api:{api_port}; proxy_connect_timeout 2s; }}
    }}
}}
"""

DNSMASQ_CONF = """\
port={port}
listen-address={v4},{v6}
bind-interfaces
no-resolv
no-hosts
local=/{domain}/
user=root
group=root
pid-file=
log-facility=-
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One process of the workload. ``listens`` is what it answers on once it is ready."""

    name: str
    host: plan.Host
    command: tuple[str, ...]
    listens: int = 0


def write_files(folder: Path) -> None:
    """Everything the servers read."""
    nginx = NGINX_CONF.format(
        folder=folder,
        dns=plan.DNS.v4,
        http_port=plan.HTTP_PORT,
        api=f"api.{plan.DOMAIN}",
        api_port=plan.API_PORT,
    )
    dnsmasq = DNSMASQ_CONF.format(
        port=plan.DNS_PORT, v4=plan.DNS.v4, v6=plan.DNS.v6, domain=plan.DOMAIN
    )
    for name, addresses in plan.dns_records():
        dnsmasq += f"host-record={','.join((name, *addresses))}\n"
    (folder / "nginx.conf").write_text(nginx)
    (folder / "dnsmasq.conf").write_text(dnsmasq)
    (folder / "resolv.conf").write_text(f"nameserver {plan.DNS.v4}\noptions timeout:1 attempts:2\n")


def servers(folder: Path) -> list[Job]:
    redis = ("redis-server", "--port", str(plan.REDIS_PORT), "--bind", plan.REDIS.v4, plan.REDIS.v6)
    no_disk = ("--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", str(folder))
    dnsmasq = ("dnsmasq", "--keep-in-foreground", f"--conf-file={folder / 'dnsmasq.conf'}")
    # -e: else nginx opens the log in /var/log that it was compiled with, before it reads a line
    nginx = ("nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"))
    api = tuple(python("flowobs.demo.api"))
    return [
        Job("dns-0", plan.DNS, dnsmasq, plan.DNS_PORT),
        Job("redis-0", plan.REDIS, (*redis, *no_disk), plan.REDIS_PORT),
        Job("api-0", plan.API_0, api, plan.API_PORT),
        Job("api-1", plan.API_1, api, plan.API_PORT),
        Job("web-0", plan.WEB, nginx, plan.HTTP_PORT),
    ]


def clients(seed: int) -> list[Job]:
    client = (*python("flowobs.demo.clients"), "--seed", str(seed))
    return [
        Job("laptop", plan.OUTSIDE, (*client, "laptop")),
        Job("batch-0", plan.BATCH, (*client, "batch")),
    ]


def inside(host: plan.Host, folder: Path, command: tuple[str, ...]) -> list[str]:
    """The command line that runs ``command`` in the host's network, with the demo's DNS.

    Each step is an exec: the process started is the one that serves. Its mount ends with it.
    """
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return [
        "nsenter",
        f"--net=/run/netns/{host.netns}",
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        str(folder / "resolv.conf"),
        *command,
    ]
