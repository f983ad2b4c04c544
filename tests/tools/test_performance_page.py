"""The page of performance: a goal is held against the best of the others, seconds the other way."""

from performance_page import GOALS, PeerGoal, beside, goal_lines, peer_lines
from sixfold.core.record import Measure

SERVED = PeerGoal("D16", "sixfold bf16", ("vLLM bf16", "OpenVINO bf16"), 1.6, "output")
TOOK = PeerGoal("E", "sixfold bf16", ("vLLM bf16",), 0.5, "took")


def rate(*values: float) -> dict[str, Measure]:
    return {"output": Measure(values=list(values), unit="tok/s")}


def seconds(*values: float) -> dict[str, Measure]:
    return {"took": Measure(values=list(values), unit="s")}


def last_cells(lines: list[str]) -> list[str]:
    return lines[-1].strip("| ").split(" | ")


def test_the_best_of_the_others_counts_by_its_median():
    results = {
        "D16: sixfold bf16": rate(390, 400, 900),
        "D16: vLLM bf16": rate(200, 100, 300),
        "D16: OpenVINO bf16": rate(250, 249, 251),
    }
    cells = last_cells(peer_lines(results, [SERVED]))
    assert cells == ["D16, output", "sixfold bf16", "400 tok/s", "OpenVINO bf16", "250 tok/s",
                     "1.60", "≥ 1.60", "met"]  # fmt: skip


def test_less_time_is_better():
    def said(ours: float) -> str:
        results = {"E: sixfold bf16": seconds(ours), "E: vLLM bf16": seconds(8)}
        return last_cells(peer_lines(results, [TOOK]))[-1]

    assert (said(4.0), said(4.1)) == ("met", "**missed**")


def test_a_goal_that_nobody_ran_for_has_no_line():
    assert len(peer_lines({"D16: sixfold bf16": rate(1)}, [SERVED, TOOK])) == 2


def test_a_kernel_that_missed_says_so():
    (name, share, words), (other, _, _) = GOALS[:2]
    lines = goal_lines({name: share - 0.1, other: 100.0})
    assert [line.endswith("**missed** |") for line in lines[2:]] == [True, False]
    assert words in lines[2]


def test_engines_stand_beside_each_other():
    results = {"D32: sixfold bf16": rate(390), "D32: vLLM bf16": rate(292),
               "E: sixfold int8": seconds(3.759)}  # fmt: skip
    lines = beside(results).splitlines()
    shown = {line.split(" | ")[0][2:]: line.strip("| ").split(" | ")[1:] for line in lines[2:]}
    assert shown["D32: 32 clients, output tokens/s"] == ["390", "-", "-", "-", "292", "-"]
    assert shown["E: 32 that share 1,024 tokens, seconds"][1] == "3.76"
