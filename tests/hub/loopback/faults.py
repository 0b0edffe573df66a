"""Accidents on the way between a client and the loopback test Hub."""

import asyncio
import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """
    What happens to the next `times` requests whose method and path match.

    `kind` is `status`, an answer with that status and those headers; `cut-request`, the connection is closed after a
    first piece of the body has come; `lost-response`, once the request has been carried out; `hold`, no answer comes
    while the client waits; `together`, the first of two requests waits for the second.
    """

    method: str
    path: str
    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    seen: int = 0

    def matches(self, method: str, path: str) -> bool:
        return self.seen < self.times and method == self.method and re.search(self.path, path) is not None


class Faults:
    """ASGI around the app, which lets the faults of a list happen."""

    def __init__(self, app, faults: list[Fault]):
        self.app, self.faults = app, faults

    async def __call__(self, scope, receive, send):
        fault = None
        if scope["type"] == "http":
            # Routes match quoted segments: a revision such as refs/pr/1 is one of them.
            scope = {**scope, "path": scope["raw_path"].decode()}
            fault = next((f for f in self.faults if f.matches(scope["method"], scope["path"])), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        fault.seen += 1
        # uvicorn's cycle of one request and its answer: nothing of ASGI closes a connection.
        connection = receive.__self__.transport
        if fault.kind == "status":
            headers = [(name.encode(), value.encode()) for name, value in fault.headers.items()]
            await _whole_body(receive)
            await send({"type": "http.response.start", "status": fault.status, "headers": headers})
            await send({"type": "http.response.body", "body": b"an injected fault"})
        elif fault.kind == "cut-request":
            await receive()
            connection.abort()
        elif fault.kind == "hold":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif fault.kind == "together":
            while fault.seen < 2:
                await asyncio.sleep(0.01)
            await self.app(scope, receive, send)
        else:

            async def drop(message):
                connection.abort()

            await self.app(scope, receive, drop)


async def _whole_body(receive) -> None:
    while (await receive()).get("more_body"):
        pass
