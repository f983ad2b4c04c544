"""Events of the prefix cache: whoever follows them knows what would be hit."""

from pathlib import Path

import msgspec
import pytest
import zmq

from sixfold import LLM, SamplingParams
from sixfold.core.config import BLOCK_SIZE
from sixfold.core.errors import ConfigError
from sixfold.engine.kv_publisher import END
from sixfold.engine.kvcache.events import AllBlocksCleared, BlockRemoved, BlockStored, EventBatch

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
GREEDY = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)


class Follower:
    """A router's picture: prefixes by the hash of their last block."""

    def __init__(self) -> None:
        self.prefixes: dict[bytes, tuple[int, ...]] = {}

    def take(self, batch: EventBatch) -> None:
        for event in batch.events:
            match event:
                case BlockStored():
                    known = self.prefixes.get(event.parent_block_hash or b"", ())
                    for i, digest in enumerate(event.block_hashes):
                        known += tuple(event.token_ids[i * BLOCK_SIZE : (i + 1) * BLOCK_SIZE])
                        self.prefixes[digest] = known
                case BlockRemoved():
                    for digest in event.block_hashes:
                        del self.prefixes[digest]
                case AllBlocksCleared():
                    self.prefixes.clear()

    def hit(self, prompt: list[int]) -> int:
        """Tokens of the prompt that a block is known for; the last one is always computed."""
        known = set(self.prefixes.values())
        count = 0
        while tuple(prompt[: count + BLOCK_SIZE]) in known and count + BLOCK_SIZE < len(prompt):
            count += BLOCK_SIZE
        return count


@pytest.fixture
def published(tmp_path):
    """An engine with few blocks, and a follower's sockets."""
    address, replay = f"ipc://{tmp_path}/events", f"ipc://{tmp_path}/replay"
    llm = LLM(str(TINY), dtype="f32", num_kv_blocks=12, max_model_len=256,
              cache_dir=str(tmp_path), kv_events=address, kv_events_replay=replay)  # fmt: skip
    context = zmq.Context()
    listener = context.socket(zmq.SUB)
    listener.setsockopt(zmq.SUBSCRIBE, b"")
    listener.connect(address)
    while not listener.poll(50):  # the subscription needs a moment
        llm.engine._publisher.publish([AllBlocksCleared()])
    asker = context.socket(zmq.DEALER)
    asker.connect(replay)
    yield llm, listener, asker
    llm.engine._publisher.close()
    context.destroy(linger=0)


def received(llm: LLM, listener, last: int = -1) -> list[tuple[int, EventBatch]]:
    """What was sent behind number `last`, up to the end."""
    found: list[tuple[int, EventBatch]] = []
    while last < llm.engine._publisher._number - 1:
        assert listener.poll(10_000)
        topic, number, payload = listener.recv_multipart()
        assert topic == b""
        last = int.from_bytes(number, "big")
        found.append((last, msgspec.msgpack.decode(payload, type=EventBatch)))
    return found


def prompts() -> list[list[int]]:
    base = list(range(3, 150))
    return [base[:100], base[:70] + [9] * 40, [7] * 130, base[:100], [8] * 200, base[:99]]


def test_a_follower_foretells_every_hit(published):
    llm, listener, _asker = published
    follower = Follower()
    numbers = [received(llm, listener)[-1][0]]
    for prompt in prompts():
        foretold = follower.hit(prompt)
        output = llm.generate([prompt], GREEDY)[0].outputs[0]
        assert output.timings.cached_tokens == foretold
        for number, batch in received(llm, listener, numbers[-1]):
            numbers.append(number)
            follower.take(batch)
    assert len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1))
    assert llm.engine.stats().prefix_cache_hits > 0
    llm.engine.reset_prefix_cache()
    ((_, batch),) = received(llm, listener, numbers[-1])
    assert batch.events[-1] == AllBlocksCleared()


def test_who_has_missed_some_may_ask_again(published):
    llm, listener, asker = published
    last = received(llm, listener)[-1][0]
    for prompt in prompts():
        llm.generate([prompt], GREEDY)
    live = received(llm, listener, last)
    asker.send_multipart((b"", live[1][0].to_bytes(8, "big")))
    found = []
    while True:
        assert asker.poll(5000)
        _, _, number, payload = asker.recv_multipart()
        if number == END:
            break
        batch = msgspec.msgpack.decode(payload, type=EventBatch)
        found.append((int.from_bytes(number, "big"), batch))
    assert found == live[1:] and len(found) >= 2


def test_an_address_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot bind"):
        LLM(str(TINY), dtype="f32", num_kv_blocks=12, max_model_len=256,
            cache_dir=str(tmp_path), kv_events="tcp://nowhere:x")  # fmt: skip
