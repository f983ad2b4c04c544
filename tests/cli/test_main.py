"""The command line: exit codes, hints, and help that imports almost nothing."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from sixfold.cli.main import VERBS, main, module_of

HEAVY = ("numpy", "tokenizers", "starlette", "uvicorn", "jinja2", "prometheus_client")


def run(*arguments: str, **kwargs) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sixfold", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **kwargs)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_light_and_has_examples(verb):
    """Timing would be noise: what costs is what gets imported."""
    code = (
        "import sys; from sixfold.cli.main import main\n"
        f"try: main({[*verb.split(), '--help']!r})\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "examples:" in done.stdout


def test_an_unknown_verb_names_the_nearest(capsys):
    assert main(["sreve"]) == 2
    assert "did you mean: sixfold serve" in capsys.readouterr().err


def test_no_verb_is_wrong_usage(capsys):
    assert main([]) == 2
    assert "verbs:" in capsys.readouterr().out


def test_an_unknown_flag_ends_with_2():
    done = run("serve", "--prot", "1")
    assert done.returncode == 2 and "--prot" in done.stderr


def test_errors_have_a_hint_and_no_traceback(tmp_path):
    done = run("chat", "hello", "--model", str(tmp_path / "missing.gguf"))
    assert done.returncode == 1
    assert "error:" in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_said_so():
    done = run("complete", "x", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1 and "is the server running there?" in done.stderr


def test_gemma_asks_for_its_terms(tmp_path):
    done = run("pull", "gemma3-270m", env=os.environ | {"SIXFOLD_HOME": str(tmp_path)})
    assert done.returncode == 1 and "--accept-license" in done.stderr


def test_strategies_lists_all_cards(capsys):
    from sixfold.strategies import CARDS

    assert main(["strategies"]) == 0
    out = capsys.readouterr().out
    assert all(card.name in out for card in CARDS)
    assert main(["strategies", "prefix caching"]) == 0
    assert "--no-enable-prefix-caching" in capsys.readouterr().out


def test_an_unknown_strategy_is_an_error(capsys):
    assert main(["strategies", "no such"]) == 1
    assert "choose:" in capsys.readouterr().err


def test_env_names_tier_and_limits(capsys):
    import json

    assert main(["env", "--json", "--seconds", "0.1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["isa tier"] in shown["isa tiers"] and shown["read_gb_s"] > 0


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_no_verb_takes_abbreviations(verb):
    """They would start a server for a typing error."""
    assert import_module(module_of(verb)).parser().allow_abbrev is False


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["serve", "m", "--max-num-seq", "4"], "--max-num-seqs"),
        (["serve", "m", "--enable-prefix-cachin"], "--enable-prefix-caching"),
        (["bench", "--concurency=2"], "--concurrency"),
        (["tune", "m", "--budge", "5m"], "--budget"),
    ],
)
def test_the_nearest_flag_is_named(command, meant, capsys):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err
