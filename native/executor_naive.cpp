// The baseline that tiled attention is held against: three phases over a matrix of all scores.
#include "executor.h"

namespace sixfold {

void Executor::plan_naive(const Op& op, const Step& s, AttnPlan* plan) {
  plan->units.clear(), plan->members.clear(), plan->merging.clear(), plan->arrivals.clear(), plan->joined.clear();
  plan->states = 0;
  const int64_t group = op.heads / op.kv_heads;
  int64_t longest = 0;
  for (int32_t r = 0; r < s.requests; r++) {
    const int64_t rows = (s.query_start[r + 1] - s.query_start[r]) * group;
    longest = std::max<int64_t>(longest, s.positions[s.query_start[r + 1] - 1] + 1);
    for (int32_t h = 0; h < op.kv_heads; h++)
      for (int64_t row = 0; row < rows; row += kMaxRows)
        plan->units.push_back({r, h, 1, (int32_t)row, (int32_t)std::min<int64_t>(kMaxRows, rows - row), 0, 0, -1, -1, 0, -1});
  }
  // 16 more than whole pages: rows of a power of two would fight for the same cache sets.
  score_stride_ = round_up(longest, kTile) + 16;
  const int64_t wanted = s.tokens * op.heads * score_stride_;
  if (wanted <= scores_capacity_) return;
  scores_.reset(new float[(size_t)wanted]);
  scores_capacity_ = wanted;
}

template <int STAGE> void Executor::run_naive(const void* args, int64_t chunk, int) {
  const Chunked& c = *(const Chunked*)args;
  Executor& e = *c.self;
  const AttnPlan& plan = e.plans_[(size_t)c.op->kv_group];
  const int64_t begin = chunk * c.per_chunk, end = std::min(c.items, begin + c.per_chunk);
  for (int64_t i = begin; i < end; i++) e.kernels_->attention_naive(c.attn, plan.units[(size_t)i], STAGE, e.scores_.get(), e.score_stride_);
}

void Executor::schedule_naive(const Op& op, const AttnArgs& args) {
  void (*const stages[])(const void*, int64_t, int) = {run_naive<0>, run_naive<1>, run_naive<2>};
  for (auto* run : stages) {
    Chunked& c = next_chunked(op);
    c.attn = args;
    schedule(c, run, (int64_t)plans_[(size_t)op.kv_group].units.size(), 1, kPartAttention);
  }
}

} // namespace sixfold
