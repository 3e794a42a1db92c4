"""The HTTP side of a server, on aiohttp.

The server of the standard library answers small requests faster, but lacks the hard parts of HTTP:
chunked bodies, limits of headers and bodies, `Expect`, pipelining, stalled connections, a shutdown
that lets unfinished requests finish. aiohttp, with its parser in C, was the fastest server that has
all of them.
"""

import asyncio
import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from memae_tf.errors import UserError
from memae_tf.serving.server.rest_codec import Reply, Request, RestCodec, too_large

CHUNK_BYTES = 1 << 18
# Seconds for which the rest of a refused body is read, so that the client gets the reason.
LINGERING_SECONDS = 1.0
# Seconds that connected clients have to send the start of a request when the server stops.
ARRIVAL_SECONDS = 0.1
ARRIVAL_STEPS = 10
# Seconds that writing the last responses may take when the server stops.
WRITING_SECONDS = 5.0

# aiohttp logs a traceback for every request that is not HTTP; the client gets a 400.
_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.setLevel(logging.CRITICAL)


class HttpServer:
    """Serves a codec in a thread with its own event loop.

    Args:
        codec: The codec, which answers.
        host: The address to listen on.
        port: The port, 0 for a free one; the attribute `port` is the one in use.
        threads: The number of requests that are handled at a time.
        max_request_bytes: The limit of a body.
        drain_seconds: Seconds that unfinished requests may take when the server stops.

    Raises:
        UserError: If it cannot listen on this address.
    """

    def __init__(
        self,
        codec: RestCodec,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 16,
        max_request_bytes: int = 2**31 - 1,
        drain_seconds: float = 30.0,
    ):
        self._codec = codec
        self._max_request_bytes = max_request_bytes
        self._drain_seconds = drain_seconds
        self._under_way = 0
        self._draining = False
        self._workers = ThreadPoolExecutor(threads, "rest")
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._thread.start()
        try:
            self.port = self._call(self._listen(host, port))
        except OSError as error:
            self._end_loop()
            raise UserError(f"REST cannot listen on {host}:{port}: {error.strerror}") from error

    def stop(self) -> None:
        """Refuses new requests, and answers the unfinished ones."""
        self._call(self._drain())
        self._end_loop()

    def _end_loop(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, host: str, port: int) -> int:
        self._server = web.Server(
            self._answer,
            auto_decompress=False,
            access_log=None,
            logger=_silent,
            lingering_time=LINGERING_SECONDS,
        )
        self._runner = web.ServerRunner(self._server, shutdown_timeout=WRITING_SECONDS)
        await self._runner.setup()
        self._idle = asyncio.Event()
        self._idle.set()
        self._listening = await self._loop.create_server(self._server, host, port)
        return self._listening.sockets[0].getsockname()[1]

    async def _drain(self) -> None:
        # aiohttp's own shutdown would not read the rest of a body that is being sent.
        self._draining = True
        await self._stop_listening()
        if self._server.connections:
            # In steps, as on a busy machine all of the time may pass before the loop's next turn.
            for _ in range(ARRIVAL_STEPS):
                await asyncio.sleep(ARRIVAL_SECONDS / ARRIVAL_STEPS)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self._drain_seconds)
        await self._runner.cleanup()

    async def _stop_listening(self) -> None:
        """Closes the port after all waiting connections are accepted.

        asyncio's own shutdown drops connections that it is about to accept, and the system resets
        those that wait for it.
        """
        for listener in self._listening.sockets:
            self._loop.remove_reader(listener)
        # Of those that asyncio has just accepted: a turn for their transports, one for aiohttp.
        for _ in range(2):
            await asyncio.sleep(0)
        late = []
        for listener in self._listening.sockets:
            with listener.dup() as waiting, contextlib.suppress(OSError):
                while True:
                    late.append(waiting.accept()[0])
        self._listening.close()
        for connection in late:
            await self._loop.connect_accepted_socket(self._server, connection)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._reply(request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _reply(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._read(request)
        if body is None:
            reply = too_large(self._max_request_bytes)
        else:
            message = Request(request.method, request.raw_path, body, request.headers)
            reply = await self._loop.run_in_executor(self._workers, self._codec.handle, message)
        # The rest of a refused body is not read.
        return _response(reply, close=body is None or self._draining)

    async def _read(self, request: web.BaseRequest) -> bytearray | None:
        """The body; `None` if it is too long."""
        if (request.content_length or 0) > self._max_request_bytes:
            return None
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        async for chunk in request.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_request_bytes:
                return None
        return body


def _response(reply: Reply, close: bool) -> web.Response:
    response = web.Response(
        status=reply.status,
        body=reply.body,
        content_type=reply.content_type,
        headers=reply.headers,
    )
    if close:
        response.force_close()
    return response
