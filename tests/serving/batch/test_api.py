"""Files and batches over HTTP, driven by OpenAI's own client, on a real server process."""

import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest
from server_harness import Server, eventually

from sixfold.serving.batch.objects import RequestCounts
from sixfold.serving.batch.service import Pace

URL = "/v1/completions"
TINY = str(Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf")


def lines(count: int, **body) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"id-{i}", "method": "POST", "url": URL,
                "body": {"prompt": f"text {i}", "max_tokens": 4, **body},
            }
        ).encode() + b"\n"
        for i in range(count)
    )  # fmt: skip


@pytest.fixture
def start(tmp_path):
    running: list[Server] = []

    def begin(**config) -> Server:
        server = Server(batch_dir=str(tmp_path / "batches"), **config)
        assert server.port, server.stderr()
        running.append(server)
        return server

    yield begin
    for server in running:
        server.kill()
        server.close()


def client_of(server: Server, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def upload(client: openai.OpenAI, data: bytes) -> str:
    return client.files.create(file=("in.jsonl", io.BytesIO(data)), purpose="batch").id


def begun(client: openai.OpenAI, data: bytes, endpoint: str = URL):
    return client.batches.create(
        input_file_id=upload(client, data), endpoint=endpoint, completion_window="24h",
        metadata={"for": "a test"},
    )  # fmt: skip


def ended(client: openai.OpenAI, batch_id: str):
    live = ("validating", "in_progress", "finalizing", "cancelling")
    return eventually(lambda: (b := client.batches.retrieve(batch_id)).status not in live and b)


def results(client: openai.OpenAI, file_id: str | None) -> list[dict]:
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_openais_client_drives_a_batch_from_upload_to_results(start):
    client = client_of(start())
    data = lines(30) + b"broken\n" + lines(1)
    batch = begun(client, data)
    assert (batch.object, batch.endpoint, batch.metadata) == ("batch", URL, {"for": "a test"})
    batch = ended(client, batch.id)
    counts = batch.request_counts
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 32, 30, 2)
    found = results(client, batch.output_file_id)
    assert sorted(row["custom_id"] for row in found) == sorted(f"id-{i}" for i in range(30))
    assert all(row["response"]["status_code"] == 200 for row in found)
    assert found[0]["response"]["body"]["object"] == "text_completion"
    codes = sorted(row["error"]["code"] for row in results(client, batch.error_file_id))
    assert codes == ["duplicate_custom_id", "invalid_json"]
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert [b.id for b in client.batches.list()] == [batch.id]


def test_files_are_listed_paged_read_and_deleted(start):
    client = client_of(start())
    made = [upload(client, lines(i + 1)) for i in range(5)]
    assert [file.id for file in client.files.list()] == made[::-1]
    page = client.files.list(limit=2)
    assert [file.id for file in page.data] == made[:2:-1] and page.has_more
    assert len(list(client.files.list(limit=2))) == 5
    assert client.files.content(made[2]).content == lines(3)
    file = client.files.retrieve(made[0])
    assert (file.bytes, file.filename, file.purpose) == (len(lines(1)), "in.jsonl", "batch")
    assert client.files.delete(made[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made[0])
    with pytest.raises(openai.NotFoundError):
        client.files.content("../batches.db")


def test_what_can_not_be_is_refused_clearly(start):
    server = start(max_file_mb=1)
    client = client_of(server)
    file_id = upload(client, lines(1))
    for wrong in (
        {"input_file_id": "file-none"}, {"endpoint": "/v1/images"}, {"completion_window": "1h"},
        {"metadata": {"k": "v" * 600}},
    ):  # fmt: skip
        given = {"input_file_id": file_id, "endpoint": URL, "completion_window": "24h"} | wrong
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
            client.batches.create(**given)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=io.BytesIO(b"x"), purpose="fine-tune")
    with pytest.raises(openai.APIStatusError) as large:
        upload(client, b"x" * (3 << 20))
    assert large.value.status_code == 413
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call("batch_none")
    with server.client() as http:
        assert http.post("/v1/files", json={}).status_code == 415
        assert (
            http.post("/v1/files", data={"purpose": "batch"}, files={"x": b""}).status_code == 400
        )
        assert http.get("/v1/files?limit=0").status_code == 400
        assert http.get("/v1/batches?after=none").status_code == 404


def test_a_server_without_batches_says_so(start):
    server = start(enable_batches=False)
    with server.client() as http:
        answer = http.get("/v1/batches")
    assert answer.status_code == 404 and "--enable-batches" in answer.text


def test_tenants_do_not_see_each_others_files(start):
    server = start(api_keys=["one", "two"])
    one, two = client_of(server, "one"), client_of(server, "two")
    batch = begun(one, lines(2))
    batch = ended(one, batch.id)
    assert not list(two.files.list()) and not list(two.batches.list())
    for call in (
        lambda: two.files.content(batch.output_file_id),
        lambda: two.files.delete(batch.input_file_id),
        lambda: two.batches.retrieve(batch.id),
        lambda: two.batches.cancel(batch.id),
        lambda: two.batches.create(
            input_file_id=batch.input_file_id, endpoint=URL, completion_window="24h"
        ),
    ):
        with pytest.raises(openai.NotFoundError):
            call()


def test_a_cancelled_batch_keeps_what_was_answered(start):
    client = client_of(start(engine={"max_num_seqs": 2}))
    batch = begun(client, lines(400, prompt="slow"))
    assert batch.estimated_completion_at is None
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 4)
    running = client.batches.retrieve(batch.id)
    assert running.estimated_completion_at > running.in_progress_at
    with pytest.raises(openai.BadRequestError):
        client.files.delete(batch.input_file_id)
    waiting = begun(client, lines(3))
    client.batches.cancel(waiting.id)
    client.batches.cancel(batch.id)
    batch, waiting = ended(client, batch.id), ended(client, waiting.id)
    assert (batch.status, waiting.status) == ("cancelled", "cancelled")
    assert batch.estimated_completion_at is None
    kept = results(client, batch.output_file_id)
    assert 4 < len(kept) == batch.request_counts.completed < 400
    assert waiting.output_file_id is None
    with pytest.raises(openai.BadRequestError):
        client.batches.cancel(batch.id)


def test_the_end_is_told_by_the_pace_since_the_batch_was_taken_up():
    pace = Pace(before=40, began=100.0)
    assert pace.ends_in(RequestCounts(total=100, completed=40), now=110.0) is None
    assert pace.ends_in(RequestCounts(total=100, completed=55, failed=5), now=110.0) == 20.0
    assert pace.ends_in(RequestCounts(total=100, completed=100), now=120.0) == 0.0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_batch_goes_on_in_the_next_server(start, how):
    server = start(engine={"max_num_seqs": 4}, drain_timeout=0.2)
    client = client_of(server)
    batch = begun(client, lines(120, prompt="slow"))
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 8)
    os.kill(server.process.pid, how)
    server.process.wait()
    client = client_of(start())
    batch = ended(client, batch.id)
    assert batch.status == "completed"
    found = results(client, batch.output_file_id)
    assert sorted(row["custom_id"] for row in found) == sorted(f"id-{i}" for i in range(120))


def test_a_lines_own_timeout_ends_that_line_alone(start):
    client = client_of(start())
    long = lines(1, prompt="slow", max_tokens=400, timeout=0.2)
    batch = ended(client, begun(client, long.replace(b"id-0", b"late") + lines(5)).id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 5)
    (late,) = results(client, batch.error_file_id)
    assert (late["custom_id"], late["response"]["status_code"]) == ("late", 504)
    assert late["response"]["body"]["error"]["code"] == "deadline_exceeded"


def test_one_directory_is_one_servers(start):
    first = start()
    client = client_of(first)
    upload(client, lines(1))
    with pytest.raises(openai.InternalServerError) as busy:
        upload(client_of(start()), lines(1))
    assert busy.value.status_code == 503 and "--batch-dir" in str(busy.value)


def test_an_engine_that_dies_costs_its_batch_nothing(start):
    server = start()
    client = client_of(server)
    poison = json.dumps({"custom_id": "poison", "prompt": "kill", "max_tokens": 4}).encode() + b"\n"
    batch = ended(client, begun(client, lines(20) + poison + lines(0)).id)
    found = results(client, batch.output_file_id) + results(client, batch.error_file_id)
    assert sorted(row["custom_id"] for row in found) == sorted(
        ["poison", *(f"id-{i}" for i in range(20))]
    )
    assert batch.request_counts.failed == 1, results(client, batch.error_file_id)


def test_interactive_requests_are_answered_beside_a_batch(start):
    server = start(engine={"max_num_seqs": 2})
    client = client_of(server)
    batch = begun(client, lines(300, prompt="slow"))
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0)
    began = time.monotonic()
    answer = httpx.post(f"{server.url}{URL}", json={"prompt": "hello", "max_tokens": 2}, timeout=60)
    assert answer.status_code == 200
    assert client.batches.retrieve(batch.id).status == "in_progress", time.monotonic() - began
    client.batches.cancel(batch.id)
    ended(client, batch.id)


def test_what_a_batch_computes_is_backfill(tmp_path):
    """The real engine: everything of a batch, and nothing else, goes behind other requests."""
    flags = ["--port", "0", "--batch-dir", str(tmp_path / "batches"), "--kv-cache-memory-mb", "32"]
    server = Server(command=[sys.executable, "-m", "sixfold", "serve", TINY, *flags])
    try:
        client = client_of(server)
        alone = {"prompt": "text", "max_tokens": 4, "temperature": 0}
        with server.client() as http:
            assert http.post(URL, json=alone).status_code == 200
            batches = [begun(client, lines(12, temperature=0))]
            inputs = b"".join(
                json.dumps({"custom_id": f"{i}", "input": f"text {i}"}).encode() + b"\n"
                for i in range(5)
            )
            batches.append(begun(client, inputs, "/v1/embeddings"))
            for batch in batches:
                assert ended(client, batch.id).request_counts.failed == 0
            page = http.get("/metrics").text
        found = {
            line.split("{")[0]: float(line.rsplit(" ", 1)[1])
            for line in page.splitlines() if not line.startswith("#") and "{" in line
        }  # fmt: skip
        prompts, generated = "prompt_tokens_total", "generation_tokens_total"
        assert found[f"sixfold:backfill_{generated}"] == 12 * 4 == found[f"vllm:{generated}"] - 4
        assert 12 < found[f"sixfold:backfill_{prompts}"] < found[f"vllm:{prompts}"]
    finally:
        server.stop()
        server.close()
