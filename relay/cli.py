"""The ``flowobs-relay`` command."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

import flowobs
from flowobs import log
from relay.config import Address, Config, ConfigError, state_folder

_EXTRA = ("fastapi", "starlette", "uvicorn", "clickhouse_connect", "chdb", "pandas", "pyarrow")


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "auto_envvar_prefix": "FLOWOBS_RELAY",
    }
)
@click.argument(
    "command",
    type=click.Choice(["serve", "check-store"]),
    default="serve",
    metavar="[serve|check-store]",
)
@click.option(
    "--listen",
    "listen",
    multiple=True,
    default=("127.0.0.1:4243",),
    metavar="ADDRESS",
    help="Take agents here: host:port or unix:///path. May be given several times.",
)
@click.option(
    "--http", default="127.0.0.1:8080", metavar="ADDRESS", help="Serve the API and the map here."
)
@click.option(
    "--store",
    metavar="URL",
    help="Keep records here: chdb:///folder, or http(s)://user:password@host:port/database of a "
    "ClickHouse server.  [default: a folder of this machine]",
)
@click.option(
    "--cluster",
    metavar="NAME",
    help="The store is one server of this ClickHouse cluster: replicate tables, and spread records "
    "over its shards.",
)
@click.option(
    "--retention",
    default="flows=3d,1m=30d,1h=1y",
    metavar="TIMES",
    help="Forget records (flows) and what is counted by minute (1m) and hour (1h) after this long.",
)
@click.option(
    "--max-disk",
    metavar="SIZE",
    help="Forget the oldest records early where the store is larger than this: 20GB.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Key of the certificate (PEM).")
@click.option("--insecure", is_flag=True, help="Allow unencrypted traffic with other hosts.")
@click.option(
    "--kubernetes",
    metavar="auto|off|KUBECONFIG",
    default="auto",
    help="Watch this cluster and give its names to all agents. auto: the one that we are a pod of.",
)
@click.option(
    "--cluster-name",
    default="",
    metavar="NAME",
    show_default=False,
    help="What that cluster is called.  [default: as the kubeconfig file does]",
)
@click.option("--log-json", is_flag=True, help="Log JSON lines.")
@click.version_option(flowobs.__version__, prog_name="flowobs-relay")
def main(
    command: str,
    listen: tuple[str, ...],
    http: str,
    store: str | None,
    cluster: str | None,
    retention: str,
    max_disk: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    kubernetes: str,
    cluster_name: str,
    log_json: bool,
) -> None:
    """Take flow records from agents, store them, and answer questions about them.

    Every option can be given in the environment, too: --max-disk is FLOWOBS_RELAY_MAX_DISK.

    check-store says what is in a store that no relay has open, and exits with 1 where something is
    wrong with it.
    """
    log.setup(as_json=log_json)
    for chatty in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # we report the same as StoreError
    try:
        config = Config(
            store=store or f"chdb://{state_folder().absolute() / 'store'}",
            cluster=cluster,
            retention=retention,
            max_disk=max_disk,
            listen=tuple(Address.parse(text) for text in listen),
            http=Address.parse(http),
            tls_cert=tls_cert,
            tls_key=tls_key,
            insecure=insecure,
            kubernetes=kubernetes,
            cluster_name=cluster_name,
        )
        config.check()
    except ConfigError as error:
        _fail(2, str(error))
    try:
        if command == "check-store":
            _check_store(config.store)
        _serve(config)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        _fail(1, f"the relay needs {error.name}; run: pip install 'flowobs[relay]'")


def _check_store(url: str) -> NoReturn:
    from relay.store import StoreError
    from relay.store.check import check

    path = Path(url.removeprefix("chdb://"))
    if url.startswith("chdb://") and not path.is_dir():  # opening would make it
        _fail(1, f"there is no store in {path}: give its folder with --store")
    try:
        state = check(url)
    except ValueError as error:  # the URL
        _fail(2, str(error))
    except StoreError as error:
        _fail(1, str(error))
    for line in state.lines():
        click.echo(line)
    sys.exit(1 if state.problems else 0)


def _serve(config: Config) -> None:
    # imported here: `--help` needs none of it, and an installation may lack it
    from relay import memory
    from relay.identity.cluster import find_access
    from relay.listen import ListenError
    from relay.server import Relay, RelayFailed, serve
    from relay.store import Store, StoreError

    def ready(listen: list[Address], http: Address) -> None:
        # what there is by now stays: to look through it took each full collection 30 ms of a query
        gc.freeze()
        scheme = "https" if config.tls_cert else "http"
        click.echo(f"relay ready: {scheme}://{http} - agents: {', '.join(map(str, listen))}")
        sys.stdout.flush()

    async def run(store: Store) -> None:
        await serve(Relay(config, store, cluster), ready)

    memory.bound()
    try:
        cluster = find_access(config.kubernetes, config.cluster_name)
    except ConfigError as error:
        _fail(2, str(error))
    try:
        store = Store.open(
            config.store,
            retention=config.retention,
            max_disk=config.max_disk,
            cluster=config.cluster,
        )
    except ValueError as error:  # the URL, the retention or the size
        _fail(2, str(error))
    except StoreError as error:
        _fail(1, str(error))
    code = 0
    try:
        asyncio.run(run(store))
    except (ConfigError, ListenError, RelayFailed, StoreError) as error:
        click.echo(f"flowobs-relay: {error}", err=True)
        code = 2 if isinstance(error, ConfigError) else 1
    store.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # a query that does not stop must not keep the process: Python would wait for its thread
    os._exit(code)


def _fail(code: int, sentence: str) -> NoReturn:
    click.echo(f"flowobs-relay: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
