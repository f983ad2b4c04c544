// The executor's last part: output projection, and from it logits, the best tokens, or samples.
#include <algorithm>
#include <cstring>

#include "executor.h"

namespace sixfold {

void Executor::head_phases(const int32_t* rows, int64_t count, int64_t best_of) {
  phases_.clear();
  while (chunked_.size() < 3) chunked_.push_back(std::make_unique<Chunked>());
  const Linear& w = weights_[(size_t)head_.weight];
  Buffer& in = buffers_[(size_t)head_.in];
  float* sizes = input_sizes_.empty() ? nullptr : input_sizes_[(size_t)head_.weight].data();
  chunked_[0]->pack = {in.data, in.ld, rows, count, &w, head_.norm < 0 ? nullptr : vectors_[(size_t)head_.norm], (float)head_.eps, sizes, packed_head_};
  const bool later = packs_later(count);
  if (!later) schedule(*chunked_[0], run_pack, row_panels(count), 1);
  Chunked& product = *chunked_[1];
  schedule_gemm(product, {&w, packed_head_, count, logits_, w.panels * kPanel + 16, best_of ? kBest : kStore, 0, nullptr, best_of},
                later ? &chunked_[0]->pack : nullptr, kPartHead);
  best_.resize((size_t)(phases_.back().chunks * kHeadRows));
  product.gemm.best = best_.data();
}

void Executor::logits(const int32_t* rows, int64_t count, float* out, int64_t vocab) {
  const int64_t ld = weights_[(size_t)head_.weight].panels * kPanel + 16;
  for (int64_t at = 0; at < count; at += kHeadRows) {
    const int64_t n = std::min(kHeadRows, count - at);
    head_phases(rows + at, n, 0);
    pool_.run(phases_.data(), (int64_t)phases_.size());
    for (int64_t r = 0; r < n; r++) std::memcpy(out + (at + r) * vocab, logits_ + r * ld, (size_t)vocab * 4);
  }
}

namespace {
struct SampleArgs {
  const float* logits;
  int64_t ld, vocab;
  const int32_t* which; // of the rows below each row of logits is
  const int32_t* targets;
  const SixfoldSampleParams* params;
  SixfoldSampleResult* results;
  uint8_t* scratch;
  int64_t scratch_bytes;
};

void run_sample(const void* args, int64_t row, int thread) {
  const SampleArgs& a = *(const SampleArgs*)args;
  const float* logits = a.logits + row * a.ld;
  const int32_t i = a.which[row];
  if (a.targets[i] >= 0)
    sixfold_logprobs_row(logits, a.vocab, a.targets[i], a.params[i].num_logprobs, a.results + i);
  else
    sixfold_sample_row(logits, a.vocab, a.params + i, a.scratch + thread * a.scratch_bytes, a.results + i);
}
} // namespace

// Rows of which only the best token is wanted never have their logits written down.
void Executor::sample(const int32_t* rows, const int32_t* targets, const SixfoldSampleParams* params, int64_t count, int64_t vocab,
                      SixfoldSampleResult* results) {
  std::vector<int32_t> greedy, others;
  for (int64_t i = 0; i < count; i++)
    (targets[i] < 0 && sixfold_takes_best(params + i) ? greedy : others).push_back((int32_t)i);
  take_best(rows, greedy, vocab, results);
  draw(rows, others, targets, params, vocab, results);
}

void Executor::take_best(const int32_t* rows, const std::vector<int32_t>& which, int64_t vocab, SixfoldSampleResult* results) {
  std::vector<int32_t> some;
  for (size_t at = 0; at < which.size(); at += kHeadRows) {
    const size_t n = std::min((size_t)kHeadRows, which.size() - at);
    some.clear();
    for (size_t i = 0; i < n; i++) some.push_back(rows[which[at + i]]);
    head_phases(some.data(), (int64_t)n, vocab);
    pool_.run(phases_.data(), (int64_t)phases_.size());
    for (size_t i = 0; i < n; i++) {
      Best best = best_[i]; // chunks come in order of columns
      for (int64_t c = 1; c < phases_.back().chunks; c++) {
        const Best& other = best_[(size_t)(c * kHeadRows) + i];
        if (other.value > best.value) best = other;
      }
      SixfoldSampleResult& result = results[which[at + i]];
      result.token = std::max(best.column, 0);
      result.status = best.column < 0 ? SIXFOLD_NO_CANDIDATE : SIXFOLD_SAMPLED;
      result.rank = result.num_top = 0;
      result.logprob = 0.0f;
    }
  }
}

void Executor::draw(const int32_t* rows, const std::vector<int32_t>& which, const int32_t* targets, const SixfoldSampleParams* params,
                    int64_t vocab, SixfoldSampleResult* results) {
  const int64_t ld = weights_[(size_t)head_.weight].panels * kPanel + 16;
  uint8_t* aligned = (uint8_t*)(((uintptr_t)scratch_.data() + 63) / 64 * 64);
  std::vector<int32_t> some;
  for (size_t at = 0; at < which.size(); at += kHeadRows) {
    const size_t n = std::min((size_t)kHeadRows, which.size() - at);
    some.clear();
    for (size_t i = 0; i < n; i++) some.push_back(rows[which[at + i]]);
    head_phases(some.data(), (int64_t)n, 0);
    SampleArgs args = {logits_, ld, vocab, which.data() + at, targets, params, results, aligned, scratch_bytes_};
    phases_.push_back({run_sample, &args, (int64_t)n, kPartSample});
    pool_.run(phases_.data(), (int64_t)phases_.size());
  }
}

} // namespace sixfold
