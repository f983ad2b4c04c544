"""One HTTP/1.1 response, read as its segments arrive: where its body ends, and what came when.

Pure and exact for any segmentation. Body bytes are kept with the time of their segment and not
looked at. Not here: sockets (http.py), what the body says (events.py).
"""

import re
from collections.abc import Callable

CRLF = b"\r\n"
MAX_HEAD = 65536
MAX_LINE = 4096

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_BODILESS = (204, 304)


class MalformedError(Exception):
    """The server's bytes are no HTTP/1.1 response; says in which way."""


class Response:
    """A response on its way in. `feed` it segments until it returns True.

    `parts` are the body's bytes as they came, framing removed; `times` says when, part by part.
    """

    __slots__ = (
        "_held", "_left", "_step", "complete", "error", "keep", "parts", "started", "status",
        "times", "until_close",
    )  # fmt: skip

    def __init__(self) -> None:
        self.status = 0
        self.parts: list[bytes] = []
        self.times: list[float] = []
        self.started = False
        """Any byte arrived."""
        self.complete = False
        """The body ended where the framing says that it ends."""
        self.keep = True
        """The connection may be used again."""
        self.until_close = False
        """The end of the connection ends the body."""
        self.error = ""
        self._held = b""
        self._left = 0
        self._step: Callable[[bytes, float], bool] = self._head

    def feed(self, data: bytes, now: float) -> bool:
        """Take a segment that arrived at `now` (seconds). True once the response is complete.

        Raises MalformedError.
        """
        self.started = True
        if self._step(data, now):
            self.complete = True
            return True
        return False

    def close(self) -> None:
        """The connection ended: that completes a body without framing, and cuts any other."""
        self.keep = False
        if self.until_close:
            self.complete = True

    def _head(self, data: bytes, now: float) -> bool:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head, rest = self._held[:end], self._held[end + 4 :]
            self._held = b""
            status, http_1_1, headers = _parse_head(head)
            if status >= 200:
                self.status = status
                return self._begin_body(http_1_1, headers, rest, now)
            self._held = rest
        if len(self._held) > MAX_HEAD:
            raise MalformedError("its header has no end")
        if not b"HTTP/1.".startswith(self._held[:7]):
            raise MalformedError("it is not HTTP/1.1")
        return False

    def _begin_body(
        self, http_1_1: bool, headers: dict[bytes, bytes], rest: bytes, now: float
    ) -> bool:
        connection = headers.get(b"connection", b"").lower()
        self.keep = http_1_1 and b"close" not in connection
        coding = headers.get(b"transfer-encoding", b"").lower()
        length = headers.get(b"content-length")
        if self.status in _BODILESS:
            return self._end(rest)
        if coding:
            if coding != b"chunked":
                raise MalformedError("its transfer encoding is not chunked")
            self._step = self._chunked
        elif length is not None:
            if not length.isdigit() or len(length) > 15:
                raise MalformedError("its content length is no number")
            self._left = int(length)
            self._step = self._counted
            if self._left == 0:
                return self._end(rest)
        else:
            self.until_close = True
            self._step = self._open_ended
        return self._step(rest, now) if rest else False

    def _chunked(self, data: bytes, now: float) -> bool:
        """Walk chunks. `_left` counts the bytes of the current one and the CRLF behind it."""
        if self._held:
            data, self._held = self._held + data, b""
        at, end, left = 0, len(data), self._left
        while at < end:
            if left > 2:
                part = data[at : at + left - 2]
                self.parts.append(part)
                self.times.append(now)
                at += len(part)
                left -= len(part)
            elif left:
                part = data[at : at + left]
                if not CRLF[2 - left :].startswith(part):
                    raise MalformedError("a chunk is longer than it says")
                at += len(part)
                left -= len(part)
            else:
                line = data.find(CRLF, at)
                if line < 0:
                    self._hold(data[at:])
                    break
                size = _chunk_size(data[at:line])
                at = line + 2
                if size == 0:
                    self._step = self._trailers
                    return self._trailers(data[at:], now)
                left = size + 2
        self._left = left
        return False

    def _trailers(self, data: bytes, now: float) -> bool:
        data, self._held = self._held + data, b""
        while (line := data.find(CRLF)) > 0:
            data = data[line + 2 :]
        if line == 0:
            return self._end(data[2:])
        self._hold(data)
        return False

    def _counted(self, data: bytes, now: float) -> bool:
        part = data[: self._left]
        self.parts.append(part)
        self.times.append(now)
        self._left -= len(part)
        return self._end(data[len(part) :]) if self._left == 0 else False

    def _open_ended(self, data: bytes, now: float) -> bool:
        self.parts.append(data)
        self.times.append(now)
        return False

    def _end(self, surplus: bytes) -> bool:
        if surplus:
            self.keep = False
        return True

    def _hold(self, data: bytes) -> None:
        if len(data) > MAX_LINE:
            raise MalformedError("a line of its framing has no end")
        self._held = data


def _parse_head(head: bytes) -> tuple[int, bool, dict[bytes, bytes]]:
    """(status, whether it is HTTP/1.1 rather than 1.0, headers by lower-case name)."""
    first, *lines = head.split(CRLF)
    match = _STATUS.fullmatch(first)
    if match is None:
        raise MalformedError("its status line is not HTTP/1.1")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise MalformedError("a header is no name and value")
        name, value = name.lower(), value.strip()
        if name == b"content-length" and headers.get(name, value) != value:
            raise MalformedError("it has two content lengths")
        headers[name] = value
    return int(match[2]), match[1] == b"1", headers


def _chunk_size(line: bytes) -> int:
    match = _SIZE.fullmatch(line)
    if match is None:
        raise MalformedError("a chunk's size is no number")
    return int(match[1], 16)
