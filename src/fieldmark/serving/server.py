"""The server: it listens, reloads models on SIGHUP, and ends what it has begun on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fieldmark.core.console import Console
from fieldmark.core.environment import kept_environment
from fieldmark.core.errors import InputError
from fieldmark.serving.app import make_app
from fieldmark.serving.logs import json_lines
from fieldmark.serving.models import Open
from fieldmark.serving.serving import Serving
from fieldmark.serving.settings import Settings

with kept_environment():
    from threadpoolctl import threadpool_limits

_HEADER_SECONDS = 10.0
"""In which the headers of a request have to come."""
_HEADER_BYTES = 2**15
_LAST_CALLS = 0.5
"""Seconds in which a server that is being stopped still accepts requests, and asks for connections to be closed."""
_BACKLOG = 512


def serve(settings: Settings, open_model: Open, console: Console) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises InputError if a model cannot be loaded, or nobody may listen at the address.
    """
    with _listening(settings) as listener:
        with console.waiting(f"loading {', '.join(settings.models)}"):
            serving = Serving.start(settings, open_model, json_lines(console.quiet))
        config = uvicorn.Config(
            make_app(serving),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(settings.deadline) + 5,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            backlog=_BACKLOG,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        # Decisions are small products; several threads of BLAS for each would take the cores from other images.
        with threadpool_limits(1, "blas"):
            _Server(config, serving, console).run([listener])
    serving.models.close()
    console.say("stopped; all that was begun was answered")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, serving: Serving, console: Console):
        super().__init__(config)
        self._serving, self._console = serving, console
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens once it does."""
        await super().startup(sockets)
        assert sockets
        self._console.say(*_welcome(self._serving, sockets[0].getsockname()[1]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that were made, which would be reset when the socket is closed."""
        loop = asyncio.get_running_loop()
        assert sockets
        with suppress(BlockingIOError):
            while True:
                accepted, _ = sockets[0].accept()
                accepted.setblocking(False)
                self._begin(loop.connect_accepted_socket(self._protocol, accepted, ssl=self.config.ssl))
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol = _Protocol(self.config, self.server_state, {})
        protocol.closing = True
        return protocol

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours; uvicorn would end the process with the signal, whatever was answered."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        stops = (signal.SIGINT, signal.SIGTERM)
        handlers = {each: signal.getsignal(each) for each in (*stops, signal.SIGHUP)}
        for each in stops:
            loop.add_signal_handler(each, self._stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._reload()))
        try:
            yield
        finally:
            for number, handler in handlers.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop(self) -> None:
        """At first with time for those who are calling; at once the second time."""
        if self._serving.stopping:
            self.should_exit = self.force_exit = True
            return
        self._serving.stopping = True
        asyncio.get_running_loop().call_later(_LAST_CALLS, setattr, self, "should_exit", True)

    async def _reload(self) -> None:
        for name in self._serving.models.names:
            try:
                await self._serving.reload(name)
                self._serving.log(event="reloaded", model=name)
            except InputError as error:
                self._console.say(f"{name} goes on as it is, because it cannot be loaded again: {error}")
                self._serving.log(event="not reloaded", model=name)


class _Protocol(H11Protocol):
    """Headers have to come in time, and a request that has come is answered even if the server is being stopped."""

    closing = False
    """Whether it has come last, and its request has to come soon."""
    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_idle() and not self.transport.is_closing():
            if self._impatience is None and self.conn.trailing_data[0]:
                self._wait_for_headers()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self._stop_waiting()  # its request may be under way
            self._impatience = self.loop.call_later(_LAST_CALLS, self._give_up)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and self.conn.their_state is h11.IDLE)

    def _wait_for_headers(self) -> None:
        self._impatience = self.loop.call_later(_LAST_CALLS if self.closing else _HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _give_up(self) -> None:
        self._impatience = None
        if self._is_idle():
            self.transport.close()


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Raises InputError if nobody may listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"there is no address {settings.host} to listen at: {error.strerror or error}") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            hint = "--port 0 takes a free one." if settings.port else None
            raise InputError(f"nobody can listen at {settings.host}, port {settings.port}: {error.strerror or error}", hint=hint) from None
        listener.setblocking(False)
        yield listener


def _welcome(serving: Serving, port: int) -> Iterator[str]:
    settings = serving.settings
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    everywhere = settings.host in ("0.0.0.0", "::")
    for model in serving.models:
        yield f"{model.name}: {model.identity.network}, {model.identity.format}, {len(model.class_names):,} classes"
    yield f"listening at {scheme}://{host}:{port}"
    yield f"open {scheme}://{socket.gethostname() if everywhere else host}:{port}/ in a browser"
    yield f"the token for what changes something: {serving.guard.token}"
    if not settings.is_local and settings.api_key is None:
        yield "anybody who can reach this machine can call: --api-key KEY lets in only those who know it"
    if not settings.is_local and not settings.tls_cert:
        yield "phones let pages use the camera only over HTTPS: --tls-cert FILE --tls-key FILE"
