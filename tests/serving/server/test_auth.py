"""With API keys set, everything is denied by default: over every route, method and trick."""

from collections.abc import Iterator

import pytest
from server_harness import Server

from sixfold.core.errors import ConfigError
from sixfold.serving.server.app import ROUTES
from sixfold.serving.server.config import ServerConfig, is_loopback
from sixfold.serving.server.convert import tenant_salt
from sixfold.serving.server.limits import OPEN_PATHS

KEY = "correct-horse"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server that wants a key."""
    running = Server(api_keys=[KEY, "other-key"])
    yield running
    assert running.stop() == 0
    running.close()


def _paths() -> list[str]:
    paths = [path.replace("{id:path}", "fake") for _, path, _ in ROUTES]
    return [p for p in paths if p not in OPEN_PATHS] + ["/", "/nowhere", "/docs", "/openapi.json"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", _paths())
def test_no_key_no_answer(locked: Server, path: str, method: str) -> None:
    with locked.client() as client:
        assert client.request(method, path).status_code == 401


@pytest.mark.parametrize(
    "value",
    [
        "",
        KEY,
        "Bearer",
        "Bearer ",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY},other-key",
        f"Basic {KEY}",
        "Bearer ' OR 1=1",
        "Bearer \xe4\xff",
    ],
)
def test_a_wrong_key_is_no_key(locked: Server, value: str) -> None:
    head = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: {value}\r\n"
    answer = locked.raw(f"{head}Connection: close\r\n\r\n".encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"www-authenticate: Bearer" in answer
    assert KEY.encode() not in answer


@pytest.mark.parametrize(
    "target",
    [
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/%76%31/models",
        "/v1%2fmodels",
        "/health/../v1/models",
        "/health/",
        "/health%2f..%2fv1%2fmodels",
        "/HEALTH",
        "/ready;/v1/models",
        "http://localhost/v1/models",
        "http://localhost/health",
    ],
)
def test_odd_targets_open_nothing(locked: Server, target: str) -> None:
    for extra in ("", "X-Original-URL: /health\r\n", "X-HTTP-Method-Override: GET\r\n"):
        head = f"GET {target} HTTP/1.1\r\nHost: x/health?\r\n{extra}Connection: close\r\n\r\n"
        assert locked.raw(head.encode()).startswith(b"HTTP/1.1 401")


def test_two_authorization_headers_are_none(locked: Server) -> None:
    line = f"Authorization: Bearer {KEY}\r\n"
    head = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{line * 2}Connection: close\r\n\r\n"
    assert locked.raw(head.encode()).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("key", [KEY, "other-key"])
def test_the_right_key_opens(locked: Server, scheme: str, key: str) -> None:
    headers = {"authorization": f"{scheme} {key}"}
    assert locked.get("/v1/models", headers=headers).status_code == 200
    body = {"prompt": "hi", "max_tokens": 1}
    assert locked.post("/v1/completions", body, headers=headers).status_code == 200


def test_health_and_ready_are_open(locked: Server) -> None:
    assert locked.get("/health").status_code == 200
    assert locked.get("/ready").status_code == 200


def test_tenants_have_caches_of_their_own() -> None:
    assert tenant_salt("", None) == ""
    assert tenant_salt("", "salt") == "salt"
    salts = {tenant_salt(t, s) for t in ("a", "b") for s in (None, "x")}
    assert len(salts) == 4
    assert not any("a" in s and len(s) < 10 for s in salts)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_addresses_need_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="without an API key") as caught:
        ServerConfig(host=host)
    assert "API key" in caught.value.hint
    assert ServerConfig(host=host, api_keys=("k",)).host == host
    assert ServerConfig(host=host, insecure_bind=True).host == host


def test_loopback_and_ranges() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    for bad in ({"port": 70000}, {"api_keys": ("",)}, {"write_timeout": 0.0}):
        with pytest.raises(ConfigError):
            ServerConfig(**bad)
