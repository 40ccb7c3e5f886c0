"""One response that a node waits for."""

import trio

from bitdustfs.net.dht.datagram import Body, Endpoint

LOOKED_AT_MAX = 8  #: responses to one question whose signature is looked at


class Due:
    """The response to one question, due from the endpoint that was asked and no other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._came = endpoint, trio.Event()
        self._body: Body | None = None
        self._looked_at = 0

    def expects(self, endpoint: Endpoint) -> bool:
        """Whether the signature of a response that came from `endpoint` is worth a look; that is
        counted.
        """
        if endpoint != self._endpoint or self._body is not None:
            return False
        self._looked_at += 1
        return self._looked_at <= LOOKED_AT_MAX

    def deliver(self, body: Body) -> None:
        """Takes a response that was expected, and is signed."""
        self._body = body
        self._came.set()

    async def wait(self, seconds: float) -> Body | None:
        """The response, or None when these seconds passed without it."""
        with trio.move_on_after(seconds):
            await self._came.wait()
        return self._body
