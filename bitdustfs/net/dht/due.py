"""One response that a node waits for."""

import trio

from bitdustfs.net.dht.datagram import Body, Endpoint


class Due:
    """The response to one question, due from the endpoint that was asked and no other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._came = endpoint, trio.Event()
        self._body: Body | None = None

    def deliver(self, body: Body, endpoint: Endpoint) -> None:
        """Takes a response that came from `endpoint`; from anywhere else it is ignored."""
        if endpoint == self._endpoint:
            self._body = body
            self._came.set()

    async def wait(self, seconds: float) -> Body | None:
        """The response, or None when these seconds passed without it."""
        with trio.move_on_after(seconds):
            await self._came.wait()
        return self._body
