"""Each engine's command, and what its log says when it does not start."""

import os
import shlex
from pathlib import Path

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends import MODULES, aliases, backend, base
from sixfold.instrument.backends.spec import EngineSpec, Request, Scalar, flag_args, shown_command
from sixfold.strategies import ENGINES

FLAGS = {"max_num_seqs": 8, "enable_prefix_caching": False, "dtype": "bf16"}


def program(path: Path, name: str) -> str:
    """An executable of that name in a made-up virtual environment; the environment."""
    (path / "bin").mkdir(exist_ok=True)
    target = path / "bin" / name
    target.write_text("#!/bin/sh\n")
    target.chmod(0o755)
    return str(path)


def test_table() -> None:
    for name in MODULES:
        assert backend(name).name == name
        assert backend(name).install
        assert set(backend(name).aliases) <= {*aliases.COUNTERS, *aliases.GAUGES}
    assert set(ENGINES) <= set(MODULES)
    with pytest.raises(ConfigError, match="did you mean vllm"):
        backend("vlm")


def test_vllm(tmp_path: Path) -> None:
    venv = program(tmp_path, "vllm")
    spec = EngineSpec(engine="vllm", model="m", flags=FLAGS, executable=venv, port=8101)
    assert backend("vllm").argv(spec) == [
        f"{venv}/bin/vllm", "serve", "m", "--host", "127.0.0.1", "--port", "8101",
        "--max-num-seqs", "8", "--no-enable-prefix-caching", "--dtype", "bf16",
    ]  # fmt: skip
    shown = shown_command(backend("vllm"), spec)
    assert shown.startswith("env VLLM_SERVER_DEV_MODE=1 ")
    assert shlex.split(shown)[-9:] == backend("vllm").argv(spec)[-9:]
    assert backend("vllm").reset(spec, None) == (Request("POST", "/reset_prefix_cache"),)


def test_sglang(tmp_path: Path) -> None:
    venv = program(tmp_path, "python")
    flags = {"tp_size": 2, "disable_radix_cache": True, "enable_mixed_chunk": False}
    spec = EngineSpec(engine="sglang", model="m", flags=flags, executable=venv, port=30000)
    assert backend("sglang").argv(spec) == [
        f"{venv}/bin/python", "-m", "sglang.launch_server", "--model-path", "m",
        "--host", "127.0.0.1", "--port", "30000", "--enable-metrics",
        "--tp-size", "2", "--disable-radix-cache",
    ]  # fmt: skip


def test_llamacpp(tmp_path: Path) -> None:
    venv = program(tmp_path, "llama-server")
    flags = {"parallel": 2, "slot_save_path": "slots", "cont_batching": False}
    binary = f"{venv}/bin/llama-server"
    spec = EngineSpec(engine="llamacpp", model="m.gguf", flags=flags, executable=binary, port=8080)
    argv = backend("llamacpp").argv(spec)
    assert argv[0] == binary and "--metrics" in argv and argv[-1] == "--no-cont-batching"
    with pytest.raises(ConfigError, match="no GGUF"):
        backend("llamacpp").argv(EngineSpec(engine="llamacpp", model="m", executable=binary))


@pytest.mark.parametrize(
    ("flags", "props", "slots"),
    [
        ({"parallel": 2, "cache_ram": 0}, None, 2),
        ({"np": 3, "cache-ram": 0}, {"total_slots": 9}, 3),
        ({"cache_ram": 0}, {"total_slots": 4}, 4),
        ({"parallel": -1, "cram": 0}, {"total_slots": 4}, 4),
        ({"parallel": 2, "cache_prompt": False}, None, 2),
        ({"parallel": 2, "no-cache-prompt": True}, None, 2),
        ({"cache_ram": 0}, None, 0),
        ({"cache_ram": 0}, ["odd"], 0),
        ({"parallel": 2}, None, 0),
        ({"parallel": 2, "cache_ram": 512}, None, 0),
    ],
)
def test_llamacpp_forgets_by_its_slots_unless_prompts_outlive_them(
    flags: dict[str, Scalar], props: object, slots: int
) -> None:
    spec = EngineSpec(engine="llamacpp", model="m.gguf", flags=flags | {"slot_save_path": "x"})
    paths = [f"/slots/{slot}?action=erase" for slot in range(slots)]
    assert [r.path for r in backend("llamacpp").reset(spec, props)] == paths
    without = EngineSpec(engine="llamacpp", model="m.gguf", flags=flags)
    assert backend("llamacpp").reset(without, props) == ()


@pytest.mark.parametrize("name", ["vllm", "sglang", "llamacpp", "sixfold"])
def test_missing_engine_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    spec = EngineSpec(engine=name, model="m.gguf", executable=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="nowhere") as caught:
        backend(name).argv(spec)
    assert caught.value.hint == backend(name).install


@pytest.mark.parametrize("flag", ["host", "port", "model", "api-key"])
def test_owned_flags(flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        backend("sixfold").argv(EngineSpec(engine="sixfold", flags={flag: "0.0.0.0"}))


def test_flag_spelling() -> None:
    assert flag_args({"a_b": -1, "c": "-x", "d": 0.5, "e": ""}) == [
        "--a-b", "-1", "--c=-x", "--d", "0.5", "--e", "",
    ]  # fmt: skip
    for bad in ("--a", "", "a b", "a;b"):
        with pytest.raises(ConfigError):
            EngineSpec(engine="sixfold", flags={bad: 1})


@pytest.mark.parametrize(
    "url", ["", "http://example.com:80", "https://127.0.0.1:1", "http://127.0.0.1", "http://[::1"]
)
def test_openai_is_on_loopback(url: str) -> None:
    with pytest.raises(ConfigError):
        backend("openai").argv(EngineSpec(engine="openai", executable=url))


def test_openai_has_no_flags() -> None:
    spec = EngineSpec(engine="openai", executable="http://localhost:8000/v1")
    assert backend("openai").argv(spec) == []
    assert shown_command(backend("openai"), spec) == ""
    with pytest.raises(ConfigError, match="flags"):
        backend("openai").argv(
            EngineSpec(engine="openai", executable="http://localhost:8000", flags={"a": 1})
        )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "docker run --rm -p 127.0.0.1:{port}:8000 img {args}",
            ["docker", "run", "--rm", "-p", "127.0.0.1:81:8000", "img", "--a", "x {port} $(y)"],
        ),
        (
            "ssh -L {port}:127.0.0.1:{port} h 'serve {model} {args}'",
            ["ssh", "-L", "81:127.0.0.1:81", "h", "serve m --a 'x {port} $(y)'"],
        ),
        (
            "srun -n1 kubectl '--json={\"k\": 1}' {args} {port}",
            ["srun", "-n1", "kubectl", '--json={"k": 1}', "--a", "x {port} $(y)", "81"],
        ),
    ],
)
def test_templates(template: str, expected: list[str]) -> None:
    flags = {"a": "x {port} $(y)"}
    spec = EngineSpec(engine="command", model="m", flags=flags, port=81, start_command=template)
    assert backend("command").argv(spec) == expected


@pytest.mark.parametrize("template", ["serve", "serve {port}", "serve 'x {port} {args}"])
def test_bad_templates(template: str) -> None:
    spec = EngineSpec(engine="command", start_command=template, flags={"a": 1})
    with pytest.raises(ConfigError):
        backend("command").argv(spec)


TRACE = "INFO 01-01 starting\nTraceback (most recent call last):\n  File x\n"


@pytest.mark.parametrize(
    ("name", "log", "code", "status", "hint"),
    [
        (
            "vllm",
            TRACE + "RuntimeError: operator torchvision::nms does not exist",
            1, "did_not_start", "pip uninstall -y torchvision",
        ),
        (
            "vllm",
            TRACE + "importlib.metadata.PackageNotFoundError: "
            "No package metadata was found for vllm",
            1, "did_not_start", "dist-info",
        ),
        (
            "vllm",
            TRACE + "RuntimeError: Failed to infer device type, please set "
            "the environment variable",
            1, "did_not_start", "+cpu",
        ),
        (
            "vllm",
            TRACE + "ValueError: No available memory for the cache blocks.",
            1, "out_of_memory", "gpu_memory_utilization",
        ),
        ("sglang", "torch.OutOfMemoryError: CUDA out of memory.", 1, "out_of_memory", "smaller"),
        ("llamacpp", "error: invalid argument: --foo", 1, "did_not_start", "--help"),
        ("sixfold", "loading", 137, "out_of_memory", "kernel"),
        ("sixfold", "[Errno 98] Address already in use", 1, "did_not_start", "port 0"),
        ("command", "", 3, "did_not_start", "log"),
    ],
)  # fmt: skip
def test_start_failures(name: str, log: str, code: int, status: str, hint: str) -> None:
    failure = base.explain(backend(name), code, log)
    assert failure.status == status and failure.reason
    assert hint in failure.hint
    assert failure.tail == log


def test_log_tail_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff" * 300_000 + os.linesep.encode() + b"end\n\n")
    assert base.read_tail(log).endswith("end")
    assert len(base.read_tail(log)) <= base.TAIL_BYTES


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    venv = program(tmp_path, "vllm")
    env = {"HF_TOKEN": "hush", "A_API_KEY": "hush", "VLLM_CPU_KVCACHE_SPACE": "4"}
    shown = shown_command(backend("vllm"), EngineSpec(engine="vllm", executable=venv, env=env))
    assert "hush" not in shown and "VLLM_CPU_KVCACHE_SPACE=4" in shown


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.32.0", True), ("0.32.0+cpu", True), ("0.31.9", False), ("0.33", False), ("", False)],
)
def test_tested_versions(version: str, expected: bool) -> None:
    assert base.was_tested(backend("vllm"), version) is expected
    assert not base.was_tested(backend("llamacpp"), version)
