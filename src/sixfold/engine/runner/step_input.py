"""The arrays of one step, built from the scheduler's output. Moves numbers, decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.scheduler.output import ScheduledChunk

Int32 = NDArray[np.int32]


@dataclass(slots=True)
class StepInput:
    """T tokens of R requests.

    token_ids, positions int32 [T]; query_start_loc int32 [R + 1]; slots int32 [R] (rows of the
    block tables); block_tables per KV group int32 [max_num_seqs, max_blocks] (0: no block).
    """

    token_ids: Int32
    positions: Int32
    query_start_loc: Int32
    slots: Int32
    block_tables: list[Int32]


def first_tokens(rows: int, groups: int) -> StepInput:
    """One request's first tokens, to time a step before there are any: all in block 1."""
    tables = [np.ones((1, 2 + rows // BLOCK_SIZE), np.int32) for _ in range(groups)]
    places, ends = np.arange(rows, dtype=np.int32), np.array([0, rows], np.int32)
    return StepInput(np.zeros(rows, np.int32), places, ends, np.zeros(1, np.int32), tables)


class StepInputBuilder:
    """Keeps the block tables between steps; each step only writes what changed."""

    def __init__(self, num_groups: int, max_num_seqs: int, max_model_len: int) -> None:
        width = -(-max_model_len // BLOCK_SIZE) + 1
        self.block_tables = [np.zeros((max_num_seqs, width), np.int32) for _ in range(num_groups)]
        self.highest = [0] * num_groups
        """The highest block so far, of each KV group."""

    def write_tables(self, chunks: Sequence[ScheduledChunk]) -> None:
        """Take over what changed in the block tables. Doing so again changes nothing."""
        for chunk in chunks:
            for group, changes in enumerate(chunk.new_blocks):
                table = self.block_tables[group]
                for index, block in changes:
                    table[chunk.slot, index] = block
                    self.highest[group] = max(self.highest[group], block)

    def build(self, chunks: Sequence[ScheduledChunk]) -> StepInput:
        """Arrays for `chunks`, in their order."""
        self.write_tables(chunks)
        tokens: list[int] = []
        positions: list[int] = []
        starts = [0]
        slots: list[int] = []
        for chunk in chunks:
            count = len(chunk.token_ids)
            tokens += chunk.token_ids
            positions += range(chunk.start, chunk.start + count)
            starts.append(len(tokens))
            slots.append(chunk.slot)
        return StepInput(
            np.array(tokens, np.int32), np.array(positions, np.int32),
            np.array(starts, np.int32), np.array(slots, np.int32), self.block_tables,
        )  # fmt: skip
