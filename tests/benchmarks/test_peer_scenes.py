"""What the peers' benchmark makes of the times of tokens."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from peer_scenes import SCENES, Scene, prompts, summed_up


def test_decoding_counts_from_the_last_first_token_to_the_first_last_one():
    scene = Scene(2, 2, 10, 3)
    found = summed_up(scene, 0.0, [0.0, 0.5], [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    # Between 2 and 3 seconds: the token at 3 of either.
    assert found == {"took": 4.0, "output": 1.5, "ttft p50": 1.5, "ttft p99": 1.5, "decoding": 2.0}


def test_one_stream_is_judged_by_its_median_gap_and_its_prompt():
    scene = Scene(3, 1, 100, 3)
    times = [[1.0, 1.5, 2.0], [3.0, 3.1, 3.2], [5.0, 5.25, 5.5]]
    found = summed_up(scene, 0.0, [0.5, 2.5, 4.5], times)
    assert found["decoding"] == pytest.approx(4.0)
    assert found["prefill"] == pytest.approx(200.0)


def test_more_requests_than_places_have_no_time_in_which_all_decode():
    assert "decoding" not in summed_up(Scene(2, 1, 4, 1), 0.0, [0.0, 1.0], [[1.0], [2.0]])
    followed = Scene(3, 2, 4, 2)
    assert "decoding" not in summed_up(followed, 0.0, [0.0] * 3, [[1.0, 2.0]] * 3)


def test_prompts_share_their_beginning_and_nothing_else():
    scene = SCENES["E"]
    cold, warm = prompts(scene, 7), prompts(scene, 7, suffixes=1)
    assert len({tuple(p[: scene.shared]) for p in cold + warm}) == 1
    assert len({tuple(p[scene.shared :]) for p in cold + warm}) == 2 * scene.requests
    assert {len(p) for p in cold} == {scene.prompt}
    assert prompts(scene, 8)[0][:4] != cold[0][:4]
