// See sampler.h for what this does. How: weights e^((logit - best) / temperature) are cut to
// 40-bit integers, so that every sum is exact whatever its order. Candidates are sorted into
// buckets by their distance from the best; only a bucket in which a limit falls (the k-th token,
// the edge of the nucleus, the draw) is looked into and sorted. The kept tokens are always the
// first ones in order, so that their total weight alone says which they are.
#include "sampler.h"

#include "sampler_math.h"

namespace {

using namespace sixfold_sampler;

// ---- adjusting logits ---------------------------------------------------------------------

bool has_penalties(const SixfoldSampleParams& p) {
  return p.repetition_penalty != 1.0f || p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
}

bool changes_logits(const SixfoldSampleParams& p) {
  return p.num_bias || p.num_banned || has_penalties(p);
}

// Applies the penalties to each distinct token of the history once. seen: [n], not initialised.
void penalise(float* x, int64_t n, const SixfoldSampleParams& p, int32_t* seen) {
  const int32_t* lists[2] = {p.prompt_ids, p.output_ids};
  const int32_t counts[2] = {p.num_prompt, p.num_output};
  constexpr int32_t kDone = -1;
  for (int list = 0; list < 2; list++)
    for (int32_t i = 0; i < counts[list]; i++)
      if ((uint32_t)lists[list][i] < (uint64_t)n) seen[lists[list][i]] = 0;
  for (int32_t i = 0; i < p.num_output; i++)
    if ((uint32_t)p.output_ids[i] < (uint64_t)n) seen[p.output_ids[i]]++;
  for (int list = 0; list < 2; list++)
    for (int32_t i = 0; i < counts[list]; i++) {
      const int32_t id = lists[list][i];
      if ((uint32_t)id >= (uint64_t)n || seen[id] == kDone) continue;
      float v = x[id] > 0.0f ? x[id] / p.repetition_penalty : x[id] * p.repetition_penalty;
      v = clean(v);
      if (seen[id] > 0) {
        v = v - p.frequency_penalty * (float)seen[id];
        v = v - p.presence_penalty;
      }
      x[id] = clean(v);
      seen[id] = kDone;
    }
}

// Copies the logits with bias, bans and penalties in force. Returns them, or the logits
// themselves where nothing changes them.
const float* adjust(const float* logits, int64_t n, const SixfoldSampleParams& p, float* out,
                    int32_t* seen) {
  if (!changes_logits(p)) return logits;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) *(vf_u*)(out + i) = clean(load(logits + i));
  for (; i < n; i++) out[i] = clean(logits[i]);
  for (int32_t b = 0; b < p.num_bias; b++) {
    const int32_t id = p.bias_ids[b];
    if ((uint32_t)id < (uint64_t)n) out[id] = clean(out[id] + p.bias_values[b]);
  }
  for (int32_t b = 0; b < p.num_banned; b++)
    if ((uint32_t)p.banned_ids[b] < (uint64_t)n) out[p.banned_ids[b]] = kNever;
  if (has_penalties(p)) penalise(out, n, p, seen);
  return out;
}

// ---- choosing ------------------------------------------------------------------------------

// Lowest id that holds the best logit.
int32_t argmax(const float* x, const Peak& peak) {
  int64_t i = peak.block;
  while (clean(x[i]) != peak.best) i++;
  return (int32_t)i;
}

constexpr float kReach = 27.7f;         // natural-log distance behind which a weight would be 0
constexpr float kOne = 1099511627776.f; // 2^40: the best token's weight
constexpr int kBuckets = 1024;
constexpr uint16_t kNoBucket = 0xffff; // -1

inline uint64_t weight_of(float decayed) { return (uint64_t)(int64_t)(decayed * kOne); }

// Candidates in buckets. Order within and across: distance from the best, then id.
struct Buckets {
  int64_t n;
  float* distance;  // [n]
  uint16_t* bucket; // [n], kNoBucket for tokens that are out
  uint64_t* keys;   // [n]: distance bits << 32 | id, sorted, of one bucket
  struct {
    uint64_t mass, count;
  } at[kBuckets];
};

struct Scale {
  float best, temperature, reach, buckets_per_nat;
};

__extension__ typedef unsigned __int128 uint128;

struct Prefix {
  uint64_t mass; // total weight of the first tokens in order
  int32_t last;  // the last of them
};

// Puts up to kLanes tokens from `first` into their buckets; v are their cleaned logits.
inline void fill_lanes(Buckets* b, int64_t first, int lanes, vf v, const Scale& s) {
  const vf d = (splat(s.best) - v) / splat(s.temperature);
  const vi in = d <= splat(s.reach);
  const vf near = in ? d : splat(0.0f);
  const vf decayed = decay(near);
  // A product may round up past the last bucket where the span is tiny.
  const vf place = near * s.buckets_per_nat, last = splat(kBuckets - 1);
  const vi which = __builtin_convertvector(place < last ? place : last, vi) | ~in;
  for (int lane = 0; lane < lanes; lane++) {
    b->distance[first + lane] = d[lane];
    b->bucket[first + lane] = (uint16_t)which[lane];
    if (which[lane] < 0) continue;
    b->at[which[lane]].mass += weight_of(decayed[lane]);
    b->at[which[lane]].count++;
  }
}

// Fills the buckets with all tokens at a distance of at most `reach`. Returns their mass.
uint64_t fill(Buckets* b, const float* x, const Peak& peak, float temperature, float reach) {
  const float span = std::min(reach, (peak.best - peak.least) / temperature);
  const float scale = span > 0.0f ? std::min((float)(kBuckets - 1) / span, FLT_MAX) : 0.0f;
  const Scale s = {peak.best, temperature, reach, scale};
  memset(b->at, 0, sizeof b->at);
  int64_t i = 0;
  for (; i + kLanes <= b->n; i += kLanes) fill_lanes(b, i, kLanes, clean(load(x + i)), s);
  for (; i < b->n; i++) fill_lanes(b, i, 1, splat(clean(x[i])), s);
  uint64_t total = 0;
  for (const auto& bucket : b->at) total += bucket.mass;
  return total;
}

// Collects and sorts the tokens of one bucket into b->keys.
void open_bucket(const Buckets* b, int which) {
  uint64_t* out = b->keys;
  bool sorted = true; // equal distances come in order of id already
  for (int64_t i = 0; i < b->n; i++) {
    if (b->bucket[i] != which) continue;
    uint32_t bits;
    memcpy(&bits, b->distance + i, sizeof bits);
    *out = (uint64_t)bits << 32 | (uint64_t)i;
    sorted = sorted && (out == b->keys || out[-1] < out[0]);
    out++;
  }
  if (!sorted) std::sort(b->keys, out);
}

// The shortest prefix that has `count` tokens or a mass of at least `mass`; one of them is met.
Prefix prefix_reaching(const Buckets* b, uint64_t mass, uint64_t count) {
  uint64_t total = 0, number = 0;
  int which = 0;
  for (; total + b->at[which].mass < mass && number + b->at[which].count < count; which++) {
    total += b->at[which].mass;
    number += b->at[which].count;
  }
  open_bucket(b, which);
  for (const uint64_t* key = b->keys;; key++) {
    const uint32_t bits = (uint32_t)(*key >> 32);
    float d;
    memcpy(&d, &bits, sizeof d);
    total += weight_of(decay(splat(d))[0]);
    if (total >= mass || ++number >= count) return {total, (int32_t)(uint32_t)*key};
  }
}

// Temperature, min_p, top_k, top_p, draw. peak.best > -inf.
int32_t draw(Buckets* b, const float* x, const Peak& peak, const SixfoldSampleParams& p) {
  float reach = kReach;
  if (p.min_p > 0.0f) reach = std::min(reach, (float)-log((double)p.min_p));
  uint64_t mass = fill(b, x, peak, p.temperature, std::max(reach, 0.0f));
  if (p.top_k > 0 && p.top_k < b->n) mass = prefix_reaching(b, mass, (uint64_t)p.top_k).mass;
  if (p.top_p < 1.0f) {
    const double nucleus = (double)mass * std::max((double)p.top_p, 0.0);
    mass = prefix_reaching(b, std::max((uint64_t)nucleus, (uint64_t)1), UINT64_MAX).mass;
  }
  uint32_t random[4];
  sixfold_philox(p.seed, p.position, 0, random);
  const uint64_t uniform = (uint64_t)random[0] << 32 | random[1];
  const uint64_t target = (uint64_t)(((uint128)uniform * mass) >> 64);
  return prefix_reaching(b, target + 1, UINT64_MAX).last;
}

// ---- scratch ------------------------------------------------------------------------------

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Scratch {
  float* adjusted;
  Buckets* buckets;
};

Scratch lay_out(void* scratch, int64_t vocab) {
  char* at = (char*)scratch;
  Scratch s;
  s.buckets = (Buckets*)at;
  at += aligned(sizeof(Buckets));
  s.adjusted = (float*)at;
  at += aligned(vocab * 4);
  s.buckets->n = vocab;
  s.buckets->distance = (float*)at;
  at += aligned(vocab * 4);
  s.buckets->bucket = (uint16_t*)at;
  at += aligned(vocab * 2);
  s.buckets->keys = (uint64_t*)at;
  return s;
}

} // namespace

extern "C" {

void sixfold_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4]) {
  uint32_t c[4] = {(uint32_t)counter_low, (uint32_t)(counter_low >> 32), (uint32_t)counter_high,
                   (uint32_t)(counter_high >> 32)};
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                              (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
    memcpy(c, next, sizeof c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  memcpy(out, c, sizeof c);
}

int64_t sixfold_sample_scratch_bytes(int64_t vocab) {
  return aligned(sizeof(Buckets)) + 2 * aligned(vocab * 4) + aligned(vocab * 2) +
         aligned(vocab * 8);
}

bool sixfold_takes_best(const SixfoldSampleParams* params) {
  return !(params->temperature > 0.0f) && params->num_logprobs < 0 && !changes_logits(*params);
}

void sixfold_sample_row(const float* logits, int64_t vocab, const SixfoldSampleParams* params,
                        void* scratch, SixfoldSampleResult* result) {
  const SixfoldSampleParams& p = *params;
  Scratch s = lay_out(scratch, vocab);
  // The distances are written only after the penalties are done with their counts.
  const float* x = adjust(logits, vocab, p, s.adjusted, (int32_t*)s.buckets->distance);
  const Peak peak = find_peak(x, vocab);
  const bool any = peak.best > kNever;
  result->token = 0;
  if (any) result->token = p.temperature > 0.0f ? draw(s.buckets, x, peak, p) : argmax(x, peak);
  result->rank = result->num_top = 0;
  result->logprob = 0.0f;
  if (p.num_logprobs >= 0)
    sixfold_logprobs_row(logits, vocab, result->token, p.num_logprobs, result);
  result->status = any ? SIXFOLD_SAMPLED : SIXFOLD_NO_CANDIDATE;
}

} // extern "C"
