// The work plan of a step's attention: which rows run against which keys, in pieces of like cost.
//
// Prefill chunks and decodes are planned together, the same for all layers of a KV group. Decodes
// whose caches begin with the same blocks are stacked there, so that those are read once for all
// ("cascade"). Pieces end at partials' borders and partials merge in order, so nothing of the plan
// can be seen in a result. Not here: running it (executor.cpp).
#pragma once
#include <cstdint>
#include <vector>

#include "abi.h"

namespace sixfold {

struct Step {
  int64_t tokens, requests;
  const int32_t* token_ids;   // [T]
  const int32_t* positions;   // [T]
  const int32_t* query_start; // [R + 1]
  const int32_t* slots;       // [R] rows of the block tables
};

struct PlanShape {
  int32_t heads, kv_heads, window, threads;
  const int32_t* block_table; // [slots, table_width]
  int64_t table_width;
};

struct AttnPlan {
  std::vector<AttnUnit> units;         // longest first
  std::vector<SharedMember> members;   // of the shared units
  std::vector<AttnUnit> merging;       // per merge: the whole unit; the last piece to come finishes it
  std::vector<int32_t> arrivals;       // per merge: its pieces
  std::vector<int32_t> joined;         // per merge: partials that its first piece has merged by itself
  int64_t states = 0;                  // partial states that split units are kept in
};

void make_plan(const PlanShape& shape, const Step& step, AttnPlan* plan);

} // namespace sixfold
