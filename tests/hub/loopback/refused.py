"""An answer of the loopback test Hub that is an error."""

from starlette.responses import JSONResponse


class Refused(Exception):
    """An answer that is an error, with the Hub's code for it."""

    def __init__(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None):
        self.response = JSONResponse({"error": message}, status, headers)
        self.response.headers["X-Error-Message"] = message
        if code is not None:
            self.response.headers["X-Error-Code"] = code
