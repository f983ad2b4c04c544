"""What a model's name means."""

import os
import re

import pytest

from engine.models.model_files import small_gguf
from sixfold.core.errors import NotFoundError
from sixfold.engine.models.registry import (
    KNOWN_MODELS,
    find_known,
    is_hub_id,
    model_dir,
    resolve,
    sixfold_home,
)


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda m: m.name)
def test_entries_are_complete(model):
    digests = [model.sha256, *(w.sha256 for w in model.wheels)]
    members = [p for w in model.wheels for p in (*w.parts, *(m for m, _ in w.notices))]
    for digest in digests + [m.sha256 for m in members]:
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert sum(p.size for w in model.wheels for p in w.parts) == model.size
    assert model.description and model.licence and model.file.endswith(".gguf")
    assert any(w.notices for w in model.wheels), "a model travels with its licence"
    assert model.terms or model.licence == "Apache-2.0"


def test_home_is_the_environments_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SIXFOLD_HOME", str(tmp_path / "x"))
    assert sixfold_home() == tmp_path / "x"
    monkeypatch.delenv("SIXFOLD_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sixfold_home() == tmp_path / ".cache" / "sixfold"


def test_a_known_model_is_found_once_pulled(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        resolve("smollm2-135m", tmp_path)
    assert "sixfold pull smollm2-135m" in caught.value.hint
    path = model_dir("smollm2-135m", tmp_path) / find_known("smollm2-135m").file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert resolve("smollm2-135m", tmp_path) == path


def test_paths_are_taken_as_they_are(tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(small_gguf())
    assert resolve(str(file), tmp_path) == file
    assert resolve(str(tmp_path), tmp_path) == file  # a directory with nothing but that
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path), tmp_path) == tmp_path


def test_a_hub_id_is_found_once_pulled(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        resolve("org/name", tmp_path)
    assert "sixfold pull org/name" in caught.value.hint
    directory = model_dir("org/name", tmp_path)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "a.gguf").write_text("")
    assert resolve("org/name", tmp_path) == directory
    assert resolve("org/name/a.gguf", tmp_path) == directory / "a.gguf"


def test_a_misspelt_name_gets_a_suggestion(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        resolve("smolm2-135m", tmp_path)
    assert "did you mean smollm2-135m?" in caught.value.hint


@pytest.mark.parametrize("name", ["", "nothing", "a\0b", "x" * 5000, "../../etc/nothing", "-/-"])
def test_odd_names_are_not_found(name, tmp_path):
    with pytest.raises(NotFoundError):
        resolve(name, tmp_path)


@pytest.mark.parametrize("name", ["a/b", "Org-1/Name_2.x", "a/b/c.gguf"])
def test_hub_ids(name):
    assert is_hub_id(name) and os.sep not in model_dir(name, sixfold_home()).name


@pytest.mark.parametrize("name", ["a", "a/b/c", "../b", "a/..", "/a/b", "a/b/../c.gguf", "a/ b"])
def test_what_is_no_hub_id(name):
    assert not is_hub_id(name)
