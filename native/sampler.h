// The sampler: from one row of logits to one token. It knows nothing of batches, threads or Python.
//
// A row's token depends on that row's logits, its parameters, its seed and its output position,
// and on nothing else: same request, same tokens, whatever ran beside it. All sums that decide are
// sums of integers, so that the result does not depend on instruction set or vector width either.
//
// Order of steps (vLLM's): logprobs are taken of the untouched logits; then logit_bias, banned
// tokens, repetition penalty, frequency and presence penalty; then temperature 0 takes the best
// (ties: lowest id), else temperature, min_p, top_k, top_p, and one draw by inverse CDF over the
// kept tokens from the most to the least probable (ties: lowest id first).
//
// A logit that is NaN counts as -inf, one that is +inf as FLT_MAX. Token ids outside the
// vocabulary are ignored wherever a list names them.
//
// Compile with -ffp-contract=off (a fused multiply-add would part from the NumPy twin), and never
// with -ffast-math.
#pragma once
#include <stdint.h>

extern "C" {

// Most logprobs per token (sixfold.core.request.MAX_LOGPROBS).
#define SIXFOLD_MAX_LOGPROBS 64

enum {
  SIXFOLD_SAMPLED = 0,
  SIXFOLD_NO_CANDIDATE = 1 // no finite logit was left: the token is 0 and means nothing
};

// One request's parameters for one token. Pointers may be null where their count is 0.
typedef struct {
  uint64_t seed;     // the request's seed (a negative one as two's complement)
  uint64_t position; // how many tokens the request has generated: the counter of the generator
  float temperature; // <= 0: greedy
  float top_p;       // >= 1: off
  float min_p;       // <= 0: off
  float repetition_penalty; // 1: off; over tokens of prompt and output
  float frequency_penalty;  // 0: off; times the count in the output
  float presence_penalty;   // 0: off; once per token of the output
  int32_t top_k;            // <= 0: off
  int32_t num_logprobs;     // -1: no logprobs at all; 0: of the chosen token only; at most 64
  int32_t num_bias;
  int32_t num_banned;
  int32_t num_prompt;
  int32_t num_output;
  const int32_t* bias_ids; // logit_bias: bias_values[i] is added to logit bias_ids[i]
  const float* bias_values;
  const int32_t* banned_ids; // eos and stop ids while fewer than min_tokens are out
  const int32_t* prompt_ids; // only read if a penalty is on
  const int32_t* output_ids;
} SixfoldSampleParams;

// What one row gives. Logprobs are natural and of the untouched logits. The best come first, ties
// by lowest id; `rank` is the chosen token's place (from 1) in that order.
typedef struct {
  int32_t token;
  int32_t status;
  int32_t rank;         // 0 if num_logprobs < 0
  int32_t num_top;      // entries below: min(num_logprobs, vocab)
  float logprob;
  int32_t top_ids[SIXFOLD_MAX_LOGPROBS];
  float top_logprobs[SIXFOLD_MAX_LOGPROBS];
} SixfoldSampleResult;

// Bytes of scratch that one call needs (one scratch per thread, 64-byte aligned, not initialised).
int64_t sixfold_sample_scratch_bytes(int64_t vocab);

// Whether the token is the best of the untouched logits, and nothing else is asked for.
bool sixfold_takes_best(const SixfoldSampleParams* params);

// Chooses a token. logits: [vocab], vocab in 1..2^23, only read. result: wholly overwritten.
void sixfold_sample_row(const float* logits, int64_t vocab, const SixfoldSampleParams* params,
                        void* scratch, SixfoldSampleResult* result);

// Logprobs of a given token, as for prompt_logprobs: as sixfold_sample_row fills them in.
void sixfold_logprobs_row(const float* logits, int64_t vocab, int32_t token, int32_t num_logprobs,
                          SixfoldSampleResult* result);

// Philox4x32-10 (Salmon et al., 2011): 128 random bits of (key, counter). For tests.
void sixfold_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4]);

} // extern "C"
