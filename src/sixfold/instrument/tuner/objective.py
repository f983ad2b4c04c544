"""The metric that a study makes best, read and checked before anything runs.

Not here: bounds on metrics (core/slo), what configurations score (outcome.py).
"""

from sixfold.core.errors import ConfigError
from sixfold.core.metric_names import NAMES
from sixfold.core.slo import Slo
from sixfold.core.slo_clause import canonical_stat, nearest
from sixfold.instrument.loadgen.report import STATISTICS


def read_objective(text: str, slo: Slo | None, priced: bool) -> str:
    """The key of a metric as points hold it: "ttft" is ttft:mean, "throughput" output_throughput.

    Empty: goodput under objectives, else output_throughput. `priced`: whether a price per hour is
    known. Raises ConfigError for what no run would measure.
    """
    if not text:
        return "output_throughput" if slo is None else "goodput"
    group, slash, rest = text.strip().rpartition("/")
    name, _, stat = rest.partition(":")
    if name not in NAMES:
        raise _refusal(text, f"{name!r} is no metric", nearest(name, NAMES))
    metric = NAMES[name]
    if metric.name == "goodput" and slo is None:
        raise _refusal(text, "goodput counts requests that keep objectives", "give --slo")
    if metric.name == "cost" and not priced:
        raise _refusal(text, "no price is known", "give --price-per-hour")
    known = canonical_stat(metric, stat)
    if known is None:
        hint = nearest(stat, STATISTICS) if metric.has_stats else f"write {metric.name} alone"
        raise _refusal(text, f"{metric.name} has no {stat!r}", hint)
    bounded = slo.keys() if slo is not None else ()
    key = f"{group}{slash}{metric.name}" + (f":{known}" if known else "")
    if known and known not in STATISTICS and key not in bounded:
        hint = f"choose one of: {', '.join(STATISTICS)}"
        raise _refusal(text, f"{known} is only measured where --slo bounds it", hint)
    return key


def _refusal(text: str, why: str, hint: str) -> ConfigError:
    return ConfigError(f"the objective {text!r} can't be made best: {why}", hint)
