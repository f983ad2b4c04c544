"""What a study recommends: its finals, on prompts that no search saw, decide; not the tuning.

Pure. Not here: running the finals (tune.py), words for it all (tell.py).
"""

from collections.abc import Sequence

import msgspec

from sixfold.core.point import Point
from sixfold.core.slo import Slo
from sixfold.instrument.tuner.outcome import Tried, feasible
from sixfold.instrument.tuner.tune import Found


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and what speaks against the others."""

    chosen: Tried | None
    """The tuning's runs of what is recommended; None: nothing meets the objectives."""
    judged: Tried | None
    """The runs that it was chosen by: its finals, where there were any."""
    name: str
    """Of what is recommended: defaults, best, or none."""
    against: tuple[str, ...] = ()
    """How the defaults or the candidate failed in the finals, a line each."""


def advise(found: Found, slo: Slo | None) -> Advice:
    """The winner where the finals call a gain and it keeps the objectives in them, too.

    Else the defaults, if they keep them; else the winner, if it does; else nothing.
    """
    baseline, winner = found.baseline, found.winner
    if winner is None:
        return Advice(chosen=None, judged=None, name="none")
    if winner.key == baseline.key:
        return Advice(chosen=baseline, judged=baseline, name="defaults")
    ours, theirs = finals(found)
    against = tuple(
        f"on prompts not tuned on, the {name} {fault}"
        for name, one in (("defaults", ours), ("candidate", theirs))
        if (fault := _fault(one, slo))
    )
    gain = found.comparison is not None and found.comparison.call == "GAIN"
    defaults_hold, winner_holds = not _fault(ours, slo), not _fault(theirs, slo)
    if winner_holds and (gain or not defaults_hold):
        return Advice(chosen=winner, judged=theirs, name="best", against=against)
    if defaults_hold:
        return Advice(chosen=baseline, judged=ours, name="defaults", against=against)
    return Advice(chosen=None, judged=None, name="none", against=against)


def finals(found: Found) -> tuple[Tried | None, Tried | None]:
    """The runs of the finals, of the baseline and of the winner; None where there were none."""
    assert found.winner is not None
    return (
        _together(found.baseline.key, found.final_baseline),
        _together(found.winner.key, found.final_winner),
    )


def _together(key: str, points: Sequence[Point]) -> Tried | None:
    return Tried(key=key, points=tuple(points)) if points else None


def _fault(one: Tried | None, slo: Slo | None) -> str:
    """What keeps it from being recommended; empty: nothing."""
    if one is None:
        return "had no run"
    if feasible(one, slo):
        return ""
    lost = [point.reason for point in one.points if point.status != "ok"]
    if lost:
        return f"failed in {len(lost)} of {len(one.points)} runs: {lost[0]}"
    return one.worse or f"broke {slo}"
