"""`sixfold strategies`: the cards as a table, or one card in full."""

import argparse
import json

from sixfold.cli.parsing import Parser
from sixfold.core.errors import NotFoundError


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold strategies",
        description="The six families: what each relieves, and what this build has.",
        epilog="examples:\n  sixfold strategies\n  sixfold strategies 'prefix caching'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("name", nargs="?", help="show this strategy's whole card")
    p.add_argument("--family", help="only this family")
    p.add_argument("--json", action="store_true", help="print the cards as JSON")
    return p


def run(argv: list[str]) -> int:
    """Select and print."""
    arguments = parser().parse_args(argv)
    import msgspec

    from sixfold.strategies import CARDS, STAGES

    cards = [c for c in CARDS if not arguments.family or c.family == arguments.family]
    if arguments.name:
        cards = [c for c in cards if c.name.lower() == arguments.name.lower()]
    if not cards:
        known = sorted({c.family for c in CARDS} | {c.name for c in CARDS})
        raise NotFoundError("no strategy of that name or family", f"choose: {', '.join(known)}")
    if arguments.json:
        print(json.dumps([msgspec.to_builtins(c) | {"status": c.status} for c in cards], indent=1))
    elif arguments.name:
        shown = {"status": cards[0].status, "stage": STAGES[cards[0].stage].name}
        for name, value in (msgspec.to_builtins(cards[0]) | shown).items():
            print(f"{name:<14} {_shown(value)}")
    else:
        print(f"{'family':<21} {'strategy':<34} {'status':<8} {'gain measured':<14} relieves")
        for c in cards:
            print(f"{c.family:<21} {c.name:<34} {c.status:<8} {_gain(c.name):<14} {c.bottleneck}")
        _say_where()
    if arguments.name and not arguments.json:
        _show_measured(cards[0].name)
    return 0


def _gain(strategy: str) -> str:
    """From the least to the most that was measured."""
    from sixfold.strategies.measured import measured

    some = [gain.times for one in measured() if one.strategy == strategy for gain in one.gains]
    return f"{min(some):.2f} to {max(some):.1f}x" if some else "-"


def _say_where() -> None:
    from sixfold.core.record import cpu_model
    from sixfold.strategies.measured import measured

    machines = sorted({one.machine for one in measured()})
    if machines:
        print(f"\ngains: on over off, measured on {'; '.join(machines)}", end="")
        here = cpu_model()
        print("" if any(here in machine for machine in machines) else f"; this machine is {here}")
        print("sixfold strategies NAME shows where each begins to pay")


def _show_measured(strategy: str) -> None:
    from sixfold.strategies.measured import measured

    for one in measured():
        if one.strategy == strategy:
            print(f"\nmeasured, {one.metric}, on over off ({one.machine}, {one.date}):")
            for gain in one.gains:
                print(f"  {gain.times:6.2f}x  {gain.workload}")
            if one.break_even:
                print(f"  pays {one.break_even}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "".join(f"\n  {name}: {_entry(entry)}" for name, entry in value.items()) or "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _entry(entry: object) -> str:
    """A switch, or a complaint's sentence."""
    if isinstance(entry, dict):
        return f"on: {entry['on'] or '(default)'}  off: {entry['off']}"
    return str(entry)
