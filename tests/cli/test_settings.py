"""Settings: flag before environment before file before default, and errors that name the key."""

import argparse
import os

import pytest

from sixfold.cli import generation
from sixfold.cli.settings import add_flags, build, field_docs, flag_names, read_toml, structs
from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.serving.server.config import ServerConfig


def parsed(*flags: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    for struct in structs():
        add_flags(parser, struct, struct.__name__)
    return vars(parser.parse_args(flags))


def toml(tmp_path, text: str) -> dict[str, object]:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return read_toml(str(path))


def test_precedence(tmp_path):
    flags = parsed("--max-num-seqs", "3")
    env = {"SIXFOLD_MAX_NUM_SEQS": "4", "SIXFOLD_NUM_THREADS": "5"}
    file = toml(tmp_path, 'model = "m"\nmax-num-seqs = 6\nnum_threads = 7\nseed = 8\n')
    config = build(EngineConfig, flags, file, env)
    assert (config.max_num_seqs, config.num_threads, config.seed) == (3, 5, 8)
    assert config.max_num_batched_tokens == EngineConfig(model="m").max_num_batched_tokens


def test_booleans_and_keys(tmp_path):
    flags = parsed("--no-enable-prefix-caching", "--api-key", "a", "--api-key", "b")
    assert build(EngineConfig, {"model": "m", **flags}, {}, {}).enable_prefix_caching is False
    assert build(ServerConfig, flags, {}, {}).api_keys == ("a", "b")
    assert build(ServerConfig, {}, {}, {"SIXFOLD_API_KEY": "c,d"}).api_keys == ("c", "d")
    assert build(ServerConfig, {}, toml(tmp_path, 'api_key = "e"'), {}).api_keys == ("e",)


def test_an_unknown_key_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="max_num_seq") as error:
        toml(tmp_path, "max_num_seq = 1")
    assert "max_num_seqs" in error.value.hint


@pytest.mark.parametrize("text", ["port = [", "\x00", 'model = "a" model'])
def test_a_broken_file_is_a_config_error(tmp_path, text):
    with pytest.raises(ConfigError):
        toml(tmp_path, text)


def test_bad_values_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="max_num_seqs"):
        build(EngineConfig, {"model": "m", "max_num_seqs": 0}, {}, {})
    with pytest.raises(ConfigError, match="SIXFOLD_SEED"):
        build(EngineConfig, {"model": "m"}, {}, {"SIXFOLD_SEED": "x"})
    with pytest.raises(ConfigError):
        build(EngineConfig, {}, toml(tmp_path, 'model = "m"\nseed = "x"'), {})


def test_every_field_has_a_flag_a_doc_and_vllms_name():
    assert {"--max-num-seqs", "--api-key", "--no-enable-prefix-caching"} <= flag_names()
    for struct in structs():
        assert set(field_docs(struct)) >= set(struct.__struct_fields__) - {"model"}


def test_answers_have_environment_and_file_too(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('max_tokens = 7\napi_key = "from the file"\ndtype = "int8"\nport = 1\n')
    parser = argparse.ArgumentParser()
    generation.add_arguments(parser)
    flags = parser.parse_args(["--temperature", "0", "--config", str(path)])
    asked, engine = generation.read(flags)
    assert (asked.max_tokens, asked.temperature, asked.seed) == (7, 0.0, None)
    assert (asked.api_key, engine.dtype, engine.model) == ("from the file", "int8", "smollm2-135m")
    assert engine.max_num_seqs == 1


def test_answers_by_the_environment(monkeypatch):
    for name, value in {"SEED": "5", "MODEL": "m", "URL": "http://h", "DTYPE": "f32"}.items():
        monkeypatch.setitem(os.environ, f"SIXFOLD_{name}", value)
    parser = argparse.ArgumentParser()
    generation.add_arguments(parser)
    asked, engine = generation.read(parser.parse_args(["--seed", "6"]))
    assert (asked.seed, asked.url, engine.model, engine.dtype) == (6, "http://h", "m", "f32")
    monkeypatch.setitem(os.environ, "SIXFOLD_MAX_TOKENS", "many")
    with pytest.raises(ConfigError, match="SIXFOLD_MAX_TOKENS"):
        generation.read(parser.parse_args([]))
