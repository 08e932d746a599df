"""Requests to the API server: authenticated, compressed, by one connection per watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import aiohttp
import msgspec

import flowobs
from flowobs.kubernetes import objects
from flowobs.kubernetes.access import Access, Credentials
from flowobs.kubernetes.backoff import Timing, retry_after

MAX_PAGE = 256 << 20
_READ_SIZE = 1 << 18
_status = msgspec.json.Decoder(objects.Status)

# The server writes JSON for people, twice as long, when the name is that of a browser or of curl.
USER_AGENT = f"flowobs/{flowobs.__version__}"


class ApiError(Exception):
    """The server refused. ``code`` is HTTP's, or that of an error within a watch."""

    def __init__(self, code: int, reason: str, message: str, wait: float | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}" if message else f"{code} {reason}")
        self.code = code
        self.reason = reason
        self.wait = wait
        """Seconds the server asked us to wait."""


class Client:
    """Asks one API server. To be used within ``async with``, from one event loop."""

    def __init__(self, access: Access, timing: Timing | None = None) -> None:
        self.access = access
        self.timing = timing or Timing()
        self.credentials = Credentials(access, self.timing.token)
        self.requests = 0

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=16),
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_SIZE,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    @contextlib.asynccontextmanager
    async def get(
        self, path: str, parameters: Mapping[str, str], accept: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, whose body is still to be read. How long that may take is the caller's.
        ``accept``: another form than plain JSON.

        Raises ApiError, AccessError, aiohttp.ClientError, TimeoutError.
        """
        token, tls = self.credentials.current()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if accept:
            headers["Accept"] = accept
        self.requests += 1
        async with self._session.get(
            self.access.server + path,
            params=parameters,
            headers=headers,
            ssl=tls if tls is not None else True,
            server_hostname=self.access.server_name,
            # where we are told to go elsewhere, our token does not go along
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timing.connect),
        ) as response:
            if response.status != 200:
                raise await self._refusal(response)
            yield response

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        if response.status == 401:
            self.credentials.expire()
        body = await response.content.read(1 << 16)
        try:
            status = _status.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            status = objects.Status()
        return ApiError(
            response.status,
            status.reason or response.reason or "",
            status.message[:500],
            retry_after(response.headers.get("Retry-After")),
        )


async def body(response: aiohttp.ClientResponse) -> bytes:
    """All of an answer. Raises ApiError where it is longer than any list page is."""
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.content.iter_any():
        length += len(chunk)
        if length > MAX_PAGE:
            raise ApiError(200, "TooLarge", f"a page is longer than {MAX_PAGE >> 20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)
