"""Frames between the API process and its engine: 4-byte big-endian length, then msgpack.

Every frame is one struct of a closed, tagged union, decoded with its type by msgspec; a frame
has a size cap. Not here: who sends what when (engine_client.py, engine_main.py), and nothing
is ever unpickled.
"""

import os
import socket
import struct

import msgspec

from sixfold.core.metrics import EngineStats
from sixfold.core.request import EngineRequest, RequestDelta

MAX_FRAME_BYTES = 64 << 20
"""Largest frame in either direction: far above any legal request or step."""

_HEADER = struct.Struct(">I")


class FrameError(Exception):
    """The stream can't be understood any more (size cap broken): the connection has to end."""


class Add(msgspec.Struct, tag="add", frozen=True):
    """Run this request. Its deltas follow in Deltas frames, the last with a finish_reason."""

    request: EngineRequest


class Abort(msgspec.Struct, tag="abort", frozen=True):
    """Forget this request, by its whole id; nothing more is sent for it."""

    request_id: str


class ResetCache(msgspec.Struct, tag="reset_cache", frozen=True):
    """Drop the prefix cache; answered by Reply."""

    call_id: int


class GetStats(msgspec.Struct, tag="stats", frozen=True):
    """Ask for the engine's statistics; answered by Reply."""

    call_id: int


class Ping(msgspec.Struct, tag="ping", frozen=True):
    """Answered by Reply between two steps: an engine that doesn't answer hangs."""

    call_id: int


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The model is loaded. Sent once per connection, before anything else but Failed."""

    vocab_size: int
    max_model_len: int
    max_num_seqs: int
    num_kv_tokens: int = 0
    """Tokens that the KV cache holds; 0 where the engine doesn't say."""


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The engine can't start, and why; the process ends after it."""

    message: str
    hint: str


class Deltas(msgspec.Struct, tag="deltas", frozen=True):
    """What one step gave, and the engine's statistics after it."""

    deltas: list[RequestDelta]
    stats: EngineStats


class Rejected(msgspec.Struct, tag="rejected", frozen=True):
    """A request that the engine refused: `fault` tells a bug of ours from a bad request."""

    request_id: str
    message: str
    hint: str
    param: str | None
    fault: bool


class Reply(msgspec.Struct, tag="reply", frozen=True):
    """The answer to ResetCache, GetStats or Ping. `bad_frames` counts refused frames so far."""

    call_id: int
    ok: bool
    stats: EngineStats
    bad_frames: int


Command = Add | Abort | ResetCache | GetStats | Ping
Event = Ready | Failed | Deltas | Rejected | Reply

_encoder = msgspec.msgpack.Encoder()
_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode_frame(message: Command | Event) -> bytes:
    """One frame with its length. Raises FrameError above the cap."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"frame of {len(body)} bytes is above the cap of {MAX_FRAME_BYTES}")
    return _HEADER.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """Raises msgspec.DecodeError, ValueError or RecursionError on anything but a command."""
    return _command_decoder.decode(body)


def decode_event(body: bytes) -> Event:
    """Raises msgspec.DecodeError, ValueError or RecursionError on anything but an event."""
    return _event_decoder.decode(body)


def frame_length(header: bytes) -> int:
    """Bytes that follow a 4-byte header. Raises FrameError above the cap."""
    (length,) = _HEADER.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"frame of {length} bytes is above the cap of {MAX_FRAME_BYTES}")
    return int(length)


class FrameBuffer:
    """Cuts a byte stream into frame bodies."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def partial(self) -> bool:
        """True when the stream stands inside a frame."""
        return bool(self._data)

    def feed(self, data: bytes) -> list[bytes]:
        """Bodies that are now complete. Raises FrameError where a length breaks the cap."""
        self._data += data
        bodies = []
        while len(self._data) >= _HEADER.size:
            end = _HEADER.size + frame_length(bytes(self._data[: _HEADER.size]))
            if len(self._data) < end:
                break
            bodies.append(bytes(self._data[_HEADER.size : end]))
            del self._data[:end]
        return bodies


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end of a Unix socket, as the kernel knows them."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _gid = struct.unpack("3i", raw)
    return pid, uid


def check_peer(sock: socket.socket, pid: int | None = None) -> bool:
    """True when the peer is this very user (and, where given, this very process)."""
    peer_pid, peer_uid = peer_credentials(sock)
    return peer_uid == os.geteuid() and pid in (None, peer_pid)
