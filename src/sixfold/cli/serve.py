"""`sixfold serve MODEL`: the HTTP server. Flags come from the config structs (settings.py)."""

import argparse

from sixfold.cli.parsing import Parser
from sixfold.cli.settings import add_flags, build, read_toml, structs

EXAMPLES = """examples:
  sixfold serve smollm2-135m
  sixfold serve ./model.gguf --dtype int8 --max-num-seqs 32 --port 8080
  sixfold serve smollm2-135m --no-enable-prefix-caching --batching static
  sixfold serve --config server.toml --api-key secret

Every flag has an environment variable (--max-num-seqs: SIXFOLD_MAX_NUM_SEQS) and a TOML key
(max_num_seqs). A flag goes before the environment, the environment before the file."""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold serve",
        description="Serve a model over HTTP, with OpenAI's API.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", nargs="?", help="a name (smollm2-135m), a directory or a .gguf file")
    p.add_argument("--config", metavar="FILE", help="TOML file with any of these settings")
    for struct, title in zip(structs(), ("engine", "server"), strict=True):
        add_flags(p, struct, title)
    return p


def run(argv: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    namespace = vars(parser().parse_args(argv))
    toml = read_toml(namespace.pop("config")) if namespace["config"] else {}
    namespace.pop("config", None)
    model = namespace.pop("model")
    flags = namespace | ({"model": model} if model else {})
    defaults = {"model": "smollm2-135m"} | toml
    engine, server = structs()
    settings = build(engine, flags, defaults), build(server, flags, toml)
    from sixfold.serving.server.config import run_server

    return run_server(*settings)
