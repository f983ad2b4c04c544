"""Pulling from the hub, with a stand-in for the huggingface_hub library."""

import sys
import threading
import types
from hashlib import sha256

import pytest

from sixfold.core.errors import ModelError, NotFoundError, SixfoldError
from sixfold.engine.models.hub import choose_files
from sixfold.engine.models.pull import pull

FILES = {
    "config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle", "modeling.py": b"code", "original/x.safetensors": b"other",
    "README.md": b"", "LICENSE": b"free", ".hidden.safetensors": b"",
}  # fmt: skip
WANTED = ["config.json", "tokenizer.json", "LICENSE", "model.safetensors"]


@pytest.fixture
def hub(monkeypatch):
    """A hub with `files`; `fetched` tells what was asked for."""
    module = types.ModuleType("huggingface_hub")
    module.files, module.fetched, module.fail = dict(FILES), [], None

    def lfs(name, data):
        """Large files are listed with their checksum, small ones are not."""
        large = name.endswith((".safetensors", ".gguf"))
        return types.SimpleNamespace(sha256=sha256(data).hexdigest()) if large else None

    def model_info(repo, files_metadata):
        if module.fail:
            raise module.fail
        siblings = [
            types.SimpleNamespace(rfilename=n, size=len(d), lfs=lfs(n, d))
            for n, d in module.files.items()
        ]
        return types.SimpleNamespace(siblings=siblings, sha="abc")

    def hf_hub_download(repo, name, local_dir, revision):
        assert revision == "abc"
        module.fetched.append(name)
        (local_dir / ".cache").mkdir(parents=True, exist_ok=True)
        data = module.damage(name, module.files[name])
        module.while_fetching(local_dir / ".cache", name)
        (local_dir / name).write_bytes(data)

    module.damage, module.while_fetching = (lambda name, data: data), (lambda cache, name: None)
    module.model_info, module.hf_hub_download = model_info, hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_safetensors_and_json_are_taken_and_nothing_else(hub, tmp_path):
    seen = []
    path = pull("org/name", tmp_path, progress=lambda *step: seen.append(step))
    assert path == tmp_path / "models" / "org--name"
    assert sorted(p.name for p in path.iterdir()) == sorted(WANTED) and hub.fetched == WANTED
    assert seen[-1][0] == seen[-1][1] == sum(len(FILES[n]) for n in WANTED)
    assert pull("org/name", tmp_path) == path and hub.fetched == WANTED


def test_one_gguf_file_is_taken(hub, tmp_path):
    hub.files = {"README.md": b"", "a.gguf": b"GGUF"}
    assert pull("org/name", tmp_path) == tmp_path / "models" / "org--name" / "a.gguf"


def test_of_several_gguf_files_one_is_named(hub, tmp_path):
    hub.files = {"a.gguf": b"A", "b.gguf": b"B"}
    with pytest.raises(ModelError) as caught:
        pull("org/name", tmp_path)
    assert "sixfold pull org/name/a.gguf" in caught.value.hint
    for name in ("a", "b"):
        path = pull(f"org/name/{name}.gguf", tmp_path)
        assert path.read_bytes() == name.upper().encode()
    with pytest.raises(NotFoundError):
        pull("org/name/c.gguf", tmp_path)


def test_parts_come_with_their_index_but_not_the_same_weights_twice():
    parts = ["model-1.safetensors", "model-2.safetensors"]
    files = ["config.json", "model.safetensors.index.json", "consolidated.safetensors", *parts]
    assert choose_files("o/n", files) == ["config.json", "model.safetensors.index.json", *parts]
    single = choose_files("o/n", [*files, "model.safetensors"])
    assert single == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("files", [["pytorch_model.bin", "config.json"], [], ["x.safetensors"]])
def test_what_cannot_be_run_is_not_fetched(files):
    with pytest.raises(ModelError):
        choose_files("org/name", files)


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("GatedRepoError", 403, "does not give out"),
        ("RepositoryNotFoundError", 404, "has no model"),
        ("ConnectError", None, "cannot fetch"),
    ],
)
def test_errors_of_the_hub_are_told(hub, tmp_path, kind, status, said):
    error = type(kind, (Exception,), {})("boom")
    if status:
        error.response = types.SimpleNamespace(status_code=status)
    hub.fail = error
    with pytest.raises(ModelError, match=said) as caught:
        pull("org/name", tmp_path)
    assert caught.value.hint


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SixfoldError) as caught:
        pull("org/name", tmp_path)
    assert "sixfold[hub]" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "damage"),
    [("model.safetensors", lambda data: data[::-1]), ("config.json", lambda data: data + b" ")],
)
def test_what_the_hub_does_not_list_never_becomes_a_model(hub, tmp_path, name, damage):
    """Checksums of large files, sizes of all: the library looks at no checksum."""
    hub.damage = lambda file, data: damage(data) if file == name else data
    with pytest.raises(ModelError, match=f"{name} is not the file") as caught:
        pull("org/name", tmp_path)
    assert caught.value.hint == "pull again"
    assert not list(tmp_path.rglob(name)) and not (tmp_path / "models").exists()
    hub.damage = lambda file, data: data
    assert (pull("org/name", tmp_path) / name).read_bytes() == FILES[name]


def test_the_bar_moves_within_a_file(hub, tmp_path):
    weights = b"x" * 1000
    hub.files = {"config.json": b"{}", "model.safetensors": weights}
    seen, moved = [], threading.Event()

    def progress(done, total, what):
        seen.append((done, total, what))
        if done == 2 + 400:
            moved.set()

    def while_fetching(cache, name):
        if name == "model.safetensors":
            (cache / "deep").mkdir(parents=True)
            (cache / "deep" / "a.incomplete").write_bytes(weights[:400])
            assert moved.wait(30)

    hub.while_fetching = while_fetching
    pull("org/name", tmp_path, progress=progress)
    assert (402, 1002, "model.safetensors") in seen and seen[-1] == (1002, 1002, "org/name")
    assert seen == sorted(seen, key=lambda step: step[0])
