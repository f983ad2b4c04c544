"""Frames between the processes: cut and checked; and no frame, however mutated, ends the engine."""

import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fake_engine import expected_text
from hypothesis import given
from hypothesis import strategies as st
from server_harness import PATIENCE, environment

from sixfold.core.config import EngineConfig
from sixfold.core.metrics import EngineStats
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.serving.server import engine_main, ipc

CASES = int(os.environ.get("SIXFOLD_IPC_FUZZ_CASES", "3000"))


class EngineProcess:
    """An engine process whose API process is this test."""

    def __init__(self, directory: Path) -> None:
        path = str(directory / "engine")
        self.sock: socket.socket | None = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(PATIENCE)
        self.listener.bind(path)
        self.listener.listen()
        command = [sys.executable, "-m", "sixfold.serving.server.engine_main"]
        command += ["--socket", path, "--engine", "fake_engine:FakeEngine"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment())
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(msgspec.json.encode(EngineConfig(model="fake")))
        self.accept()

    def accept(self) -> None:
        """Take the engine's connection and its Ready."""
        before = self.sock
        self.sock, _ = self.listener.accept()
        if before is not None:
            before.close()
        self.sock.settimeout(PATIENCE)
        self.buffer = ipc.FrameBuffer()
        assert isinstance(next(self.events()), ipc.Ready)

    def events(self) -> Iterator[ipc.Event]:
        """What the engine says."""
        while True:
            data = self.sock.recv(1 << 16)
            assert data, "the engine closed the connection"
            yield from map(ipc.decode_event, self.buffer.feed(data))

    def send(self, data: bytes) -> None:
        """Send bytes while reading what comes, so that neither side waits for the other."""
        self.sock.setblocking(False)
        while data:
            readable, writable, _ = select.select([self.sock], [self.sock], [], PATIENCE)
            if readable:
                self.buffer.feed(self.sock.recv(1 << 16))
            if writable:
                data = data[self.sock.send(data) :]
        self.sock.settimeout(PATIENCE)

    def ping(self, call_id: int) -> ipc.Reply:
        """The answer to a ping: the engine lives and reads whole frames."""
        self.send(ipc.encode_frame(ipc.Ping(call_id)))
        for event in self.events():
            if isinstance(event, ipc.Reply) and event.call_id == call_id:
                return event
        raise AssertionError

    def complete(self, name: str, prompt: str) -> str:
        """Run a request to its end."""
        self.send(ipc.encode_frame(ipc.Add(_request(name, prompt))))
        text = ""
        for event in self.events():
            for delta in event.deltas if isinstance(event, ipc.Deltas) else ():
                if delta.request_id == name:
                    text += delta.text
                    if delta.finish_reason is not None:
                        return text
        raise AssertionError


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    running = EngineProcess(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()
    running.sock.close()
    running.listener.close()


def _request(name: str, prompt: str) -> EngineRequest:
    params = SamplingParams(max_tokens=4, stop=["x"], logit_bias={1: 0.5}, logprobs=2)
    ids = list(prompt.encode())
    return EngineRequest(request_id=name, prompt_token_ids=ids, params=params, deadline=1e9)


def _bodies() -> list[bytes]:
    commands: list[ipc.Command] = [
        ipc.Add(_request("one", "hello")),
        ipc.Add(_request("two", "good bye")),
        ipc.Abort("one"),
        ipc.ResetCache(3),
        ipc.GetStats(4),
        ipc.Ping(5),
    ]
    return [ipc.encode_frame(command)[4:] for command in commands]


def _mutate(rng: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(data):
                data[place] = rng.choice((0, 0x7F, 0x80, 0xC0, 0xC6, 0xDB, 0xDD, 0xDF, 0xFF))
            case 2:
                data[place:place] = rng.randbytes(rng.choice((1, 4, 64)))
            case 3:
                del data[place : place + rng.choice((1, 4, 64))]
            case _:
                data[place:] = rng.choice((b"", data[:place] * 2, rng.randbytes(16)))
    return bytes(data)


def test_mutated_frames_never_end_the_engine(engine: EngineProcess) -> None:
    rng = random.Random(20240)
    bodies = _bodies()
    for case in range(0, CASES, 50):
        batch = [_mutate(rng, rng.choice(bodies)) for _ in range(50)]
        engine.send(b"".join(len(b).to_bytes(4, "big") + b for b in batch))
        reply = engine.ping(1 << 40 | case)
    assert reply.bad_frames > CASES / 10, "bad frames are refused and counted"
    assert engine.process.poll() is None
    assert engine.complete("canary", "canary") == expected_text("canary", 4)


def test_broken_framing_starts_the_connection_anew(engine: EngineProcess) -> None:
    for count, length in enumerate((ipc.MAX_FRAME_BYTES + 1, 2**32 - 1), start=1):
        engine.send(ipc.encode_frame(ipc.Add(_request("slow", "slow"))))
        engine.send(length.to_bytes(4, "big") + b"xyz")
        engine.accept()
        assert engine.ping(count).bad_frames == count
        assert engine.ping(count).stats.num_requests_running == 0
        assert engine.complete("canary", "canary") == expected_text("canary", 4)
    assert engine.process.poll() is None


def test_nested_bombs_are_refused(engine: EngineProcess) -> None:
    for body in (b"\x91" * 1_000_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b""):
        engine.send(len(body).to_bytes(4, "big") + body)
    assert engine.ping(9).bad_frames == 4


def test_the_end_of_the_stream_ends_the_engine(engine: EngineProcess) -> None:
    engine.sock.close()
    assert engine.process.wait(PATIENCE) == 0


def test_a_name_in_use_is_refused(engine: EngineProcess) -> None:
    frame = ipc.encode_frame(ipc.Add(_request("slow", "slow stutter")))
    engine.send(frame + frame)
    rejected = next(e for e in engine.events() if isinstance(e, ipc.Rejected))
    assert rejected.request_id == "slow"


def test_a_frame_that_never_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_main, "FRAME_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        connection = engine_main.Connection(str(tmp_path / "s"))
        peer, _ = listener.accept()
        with peer:
            assert connection.receive(block=False) == []
            peer.sendall(b"\x00\x00\x00\x09abc")
            assert connection.receive(block=True) == []
            time.sleep(0.06)
            with pytest.raises(ipc.FrameError):
                connection.receive(block=False)
                connection.receive(block=True)
        connection.close()


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 40))
def test_frames_are_cut_wherever_the_stream_is(bodies: list[bytes], step: int) -> None:
    stream = b"".join(len(b).to_bytes(4, "big") + b for b in bodies)
    buffer = ipc.FrameBuffer()
    got: list[bytes] = []
    for start in range(0, len(stream), step):
        got += buffer.feed(stream[start : start + step])
    assert got == bodies
    assert not buffer.partial


@given(st.binary(max_size=200))
def test_decoding_raises_only_what_is_caught(body: bytes) -> None:
    for decode in (ipc.decode_command, ipc.decode_event):
        try:
            decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue


def test_events_come_back_as_they_were() -> None:
    events: list[ipc.Event] = [
        ipc.Ready(1, 2, 3),
        ipc.Failed("m", "h"),
        ipc.Rejected("id", "m", "h", None, False),
        ipc.Reply(1, True, EngineStats(), 2),
    ]
    for event in events:
        assert ipc.decode_event(ipc.encode_frame(event)[4:]) == event


def test_only_this_user_is_let_in() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert ipc.peer_credentials(one) == (os.getpid(), os.geteuid())
        assert ipc.check_peer(one, os.getpid())
        assert not ipc.check_peer(one, os.getpid() + 1)


def test_a_frame_above_the_cap_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "MAX_FRAME_BYTES", 100)
    with pytest.raises(ipc.FrameError):
        ipc.encode_frame(ipc.Abort("x" * 200))
