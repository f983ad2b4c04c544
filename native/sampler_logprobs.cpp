// Logprobs of a row: log-softmax, rank and the k best of the untouched logits (see sampler.h).
#include "sampler.h"
#include "sampler_math.h"

namespace {

using namespace sixfold_sampler;

inline bool any(vi mask) {
  uint64_t halves[2];
  memcpy(halves, &mask, sizeof mask);
  return (halves[0] | halves[1]) != 0;
}

// log(sum(exp(x))). best > -inf.
double log_sum_exp(const float* x, int64_t n, float best) {
  double total = 0.0;
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = std::min(n, start + kBlock);
    vf sum = splat(0.0f);
    int64_t i = start;
    for (; i < end; i += kLanes) {
      vf v = splat(kNever);
      if (i + kLanes <= end)
        v = load(x + i);
      else
        memcpy(&v, x + i, (size_t)(end - i) * sizeof(float));
      vf d = splat(best) - clean(v);
      vf near = d < 80.0f ? d : splat(80.0f);
      sum += d < 80.0f ? decay(near) : splat(0.0f);
    }
    total += (double)sum[0] + (double)sum[1] + (double)sum[2] + (double)sum[3];
  }
  return (double)best + log(total);
}

// Place of `token` from 1, best first, ties by id.
int32_t rank_of(const float* x, int64_t n, int32_t token) {
  const float own = clean(x[token]);
  int32_t rank = 1;
  vi above = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) above -= clean(load(x + i)) > splat(own);
  for (; i < n; i++) rank += clean(x[i]) > own;
  for (int64_t j = 0; j < token; j++) rank += clean(x[j]) == own;
  return rank + above[0] + above[1] + above[2] + above[3];
}

// The k best ids and cleaned logits, in order: insertion into a short sorted list.
void best_tokens(const float* x, int64_t n, int32_t k, int32_t* ids, float* values) {
  int32_t held = 0;
  for (int64_t start = 0; start < n; start += kLanes) {
    const int64_t end = std::min(n, start + kLanes);
    if (held == k && end - start == kLanes &&
        !any(clean(load(x + start)) > splat(values[k - 1])))
      continue;
    for (int64_t i = start; i < end; i++) {
      const float v = clean(x[i]);
      if (held == k && !(v > values[k - 1])) continue;
      int32_t at = held < k ? held++ : k - 1;
      for (; at > 0 && v > values[at - 1]; at--) {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
      }
      values[at] = v;
      ids[at] = (int32_t)i;
    }
  }
}

void fill_logprobs(const float* x, int64_t n, int32_t num_logprobs, SixfoldSampleResult* result) {
  const Peak peak = find_peak(x, n);
  const double lse = peak.best > kNever ? log_sum_exp(x, n, peak.best) : 0.0;
  const int32_t k = std::min(num_logprobs, (int32_t)SIXFOLD_MAX_LOGPROBS);
  result->logprob = (float)((double)clean(x[result->token]) - lse);
  result->rank = rank_of(x, n, result->token);
  result->num_top = (int32_t)std::min((int64_t)k, n);
  if (result->num_top == 0) return;
  best_tokens(x, n, result->num_top, result->top_ids, result->top_logprobs);
  for (int32_t i = 0; i < result->num_top; i++)
    result->top_logprobs[i] = (float)((double)result->top_logprobs[i] - lse);
}

} // namespace

extern "C" void sixfold_logprobs_row(const float* logits, int64_t vocab, int32_t token,
                                     int32_t num_logprobs, SixfoldSampleResult* result) {
  result->token = token;
  result->status = SIXFOLD_SAMPLED;
  fill_logprobs(logits, vocab, num_logprobs, result);
}
