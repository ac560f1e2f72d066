"""An edge that speaks HTTP/2 by hand: streams that are opened and whose answers are never taken."""

from __future__ import annotations

import socket
import struct

RST_STREAM, SETTINGS = 3, 4
MAX_CONCURRENT_STREAMS = 3
_HEADERS, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW = 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class RawHttp2:
    """A connection with a window of no bytes: the server may send headers and nothing else.

    Args:
        address: host:port.

    Attributes:
        settings: what the server has said, by number.
        reset: streams that the server has ended.
    """

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.settings: dict[int, int] = {}
        self.reset: set[int] = set()
        self._next = 1
        self._connection = socket.create_connection((host, int(port)), timeout=20)
        window = struct.pack(">HI", _INITIAL_WINDOW, 0)
        self._connection.sendall(_PREFACE + _frame(SETTINGS, 0, 0, window))

    def __enter__(self) -> RawHttp2:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def open(self, path: str) -> int:
        """Open a stream; its number."""
        number, self._next = self._next, self._next + 2
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "x",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
        self._connection.sendall(_frame(_HEADERS, _END_HEADERS, number, block))
        return number

    def read(self) -> int:
        """Read a frame; its kind. TimeoutError when none comes."""
        head = self._exactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream, body = int.from_bytes(head[5:], "big"), self._exactly(length)
        if kind == RST_STREAM:
            self.reset.add(stream)
        elif kind == SETTINGS and not flags & _ACK:
            self.settings |= dict(struct.iter_unpack(">HI", body))
            self._connection.sendall(_frame(SETTINGS, _ACK, 0, b""))
        return kind

    def _exactly(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            more = self._connection.recv(length - len(got))
            if not more:
                raise ConnectionError("the server closed the connection")
            got += more
        return got


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
    )


def _text(value: str) -> bytes:
    raw = value.encode()
    assert len(raw) < 127
    return bytes([len(raw)]) + raw
