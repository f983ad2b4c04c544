// What the sampler's files share: 128-bit vectors (every x86-64 and AArch64 has them), cleaned
// logits, the exponential, the peak of a row. Nothing here decides.
#pragma once
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>

namespace sixfold_sampler {

constexpr int kLanes = 4;
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef float vf_u __attribute__((vector_size(16), aligned(4), may_alias));

inline vf load(const float* p) { return *(const vf_u*)p; }
inline vf splat(float x) { return vf{x, x, x, x}; }
inline vf as_f(vi v) { return (vf)v; }
inline vi as_i(vf v) { return (vi)v; }

constexpr float kNever = -INFINITY;
constexpr int64_t kBlock = 1024;

// NaN becomes -inf and +inf FLT_MAX. The operand order matters: a comparison with NaN is false.
inline float clean(float x) {
  float capped = FLT_MAX < x ? FLT_MAX : x;
  return capped > kNever ? capped : kNever;
}
inline vf clean(vf x) {
  vf capped = splat(FLT_MAX) < x ? splat(FLT_MAX) : x;
  return capped > splat(kNever) ? capped : splat(kNever);
}

// e^-d for 0 <= d <= 80: 2^n times a degree-6 Taylor polynomial on [-0.35, 0.35] (2e-7 relative).
// Every operation is one IEEE rounding, in this order, as in reference_sampler.py.
inline vf decay(vf d) {
  const vf magic = splat(12582912.0f);
  vf t = d * -1.44269504f;
  vf shifted = t + magic; // rounds to nearest: the low mantissa bits are the integer
  vf f = (t - (shifted - magic)) * 0.693147181f;
  vf p = f * 0.00138888889f + 0.00833333333f;
  p = p * f + 0.0416666667f;
  p = p * f + 0.166666667f;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  return as_f(as_i(p) + ((as_i(shifted) - as_i(magic)) << 23));
}

struct Peak {
  float best;    // largest cleaned logit, or -inf
  float least;   // smallest that is not -inf
  int64_t block; // where the best first stands: a multiple of kBlock
};

// One pass over x [n].
inline Peak find_peak(const float* x, int64_t n) {
  Peak peak = {kNever, FLT_MAX, 0};
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = std::min(n, start + kBlock);
    vf high[2] = {splat(kNever), splat(kNever)}, low[2] = {splat(FLT_MAX), splat(FLT_MAX)};
    int64_t i = start;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes)
      for (int u = 0; u < 2; u++) {
        vf v = clean(load(x + i + u * kLanes));
        high[u] = v > high[u] ? v : high[u];
        vf finite = v > splat(kNever) ? v : splat(FLT_MAX);
        low[u] = finite < low[u] ? finite : low[u];
      }
    float best = kNever;
    for (int lane = 0; lane < 2 * kLanes; lane++) {
      best = std::max(best, high[lane / kLanes][lane % kLanes]);
      peak.least = std::min(peak.least, low[lane / kLanes][lane % kLanes]);
    }
    for (; i < end; i++) {
      float v = clean(x[i]);
      best = std::max(best, v);
      if (v > kNever) peak.least = std::min(peak.least, v);
    }
    if (best > peak.best) {
      peak.best = best;
      peak.block = start;
    }
  }
  return peak;
}

} // namespace sixfold_sampler
