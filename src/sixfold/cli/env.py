"""`sixfold env`: what a bug report needs."""

import argparse
import json
import os

from sixfold.cli.parsing import Parser


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold env",
        description="Versions, CPU, ISA tier, and limits probed in two seconds.",
        epilog="examples:\n  sixfold env\n  sixfold env --json --seconds 0.5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.add_argument("--seconds", type=float, default=2.0, help="time to probe; 0 leaves it out")
    return p


def run(argv: list[str]) -> int:
    """Look and print."""
    arguments = parser().parse_args(argv)
    from sixfold.core.record import versions
    from sixfold.engine.kernels import cpu
    from sixfold.engine.models.registry import sixfold_home

    info = cpu.detect()
    native = bool(info.tiers)
    shown: dict[str, object] = {
        **versions(),
        "cpu": info.model,
        "threads": info.threads,
        "isa tier": cpu.choose_tier("auto") if native else "none: the native module is missing",
        "isa tiers": ", ".join(info.tiers),
        "home": str(sixfold_home()),
    }
    shown |= {k: v for k, v in os.environ.items() if k.startswith("SIXFOLD_") and "KEY" not in k}
    if native and arguments.seconds > 0:
        shown |= {k: round(v, 1) for k, v in cpu.probe(arguments.seconds).items()}
    if arguments.json:
        print(json.dumps(shown, indent=1))
    else:
        print("\n".join(f"{name:<18} {value}" for name, value in shown.items()))
    return 0
