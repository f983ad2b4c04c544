// AVX-512 attention: softmax on all rows of a tile at once. The products are in attention_bf16.inl and
// attention_int8.inl.

// 2^x for x <= 0, where `heard`, else exactly 0: masked keys must not leave a trace. Minimax of
// degree 3 on [-0.5, 0.5] (1e-4 relative, where bf16 keeps 4e-3); below -125 it stays at 2^-125. Rounds
// by adding 1.5 * 2^23, whose last bits are then the exponent: additions and shifts have units of
// their own, while those of multiplication are what the products beside need.
IN_PLACE __m512 weight_of(__m512 x, __mmask16 heard) {
  const __m512 shift = _mm512_set1_ps(12582912.0f);
  __m512 y = _mm512_max_ps(_mm512_set1_ps(-125.0f), x); // in this order NaN stays
  __m512 r = _mm512_add_ps(y, shift), f = _mm512_sub_ps(y, _mm512_sub_ps(r, shift));
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(5.500895e-2f), f, _mm512_set1_ps(2.4221101e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9328293e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(r), 23);
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(heard, _mm512_castps_si512(p), exponent));
}

template <bool MAX> IN_PLACE __m512 joined(__m512 a, __m512 b) {
  return MAX ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
}

// Eight rows of 16 to a maximum (or sum) each, lane m of row m: by one tree for every row, so that
// a row's result does not depend on how many rows there are.
template <bool MAX> IN_PLACE __m256 across(const __m512 t[8]) {
  __m512 half[4], quarter[2];
  for (int i = 0; i < 4; i++)
    half[i] = joined<MAX>(_mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0x44), _mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0xEE));
  for (int i = 0; i < 2; i++)
    quarter[i] = joined<MAX>(_mm512_shuffle_f32x4(half[2 * i], half[2 * i + 1], 0x88), _mm512_shuffle_f32x4(half[2 * i], half[2 * i + 1], 0xDD));
  __m512 pairs = joined<MAX>(_mm512_unpacklo_ps(quarter[0], quarter[1]), _mm512_unpackhi_ps(quarter[0], quarter[1]));
  __m512 all = joined<MAX>(pairs, _mm512_permute_ps(pairs, 0x4E)); // row i at 4 i, row i + 4 at 4 i + 1
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13);
  return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all));
}

// The keys of a page that a row sees, a bit each.
IN_PLACE uint32_t visible_keys(int key, int position, int window) {
  const int hidden_from = position - key + 1, hidden_below = window ? hidden_from - window : 0;
  uint32_t seen = hidden_from >= kTile ? ~0u : hidden_from <= 0 ? 0 : (1u << hidden_from) - 1;
  if (hidden_below >= kTile) return 0;
  return hidden_below > 0 ? seen & ~0u << hidden_below : seen;
}

// What the products of a step leave for its softmax and it for them, of one tile of rows.
struct TileScores {
  alignas(64) float s[kMaxRows][kStepKeys];
  alignas(64) uint32_t weights[kMaxRows][kStepKeys / 2]; // pairs of bf16, or fours of 8-bit codes
  alignas(64) float unit[kStepPages][kMaxRows];          // of the codes
};

// Scores -> 8-bit weights. What a key's value is scaled by goes with its weight. Each row's codes have a
// unit of their own in each page: one key that takes nearly all the weight, as a sequence's first one
// often does, would round the weights of all others to nothing.
template <int M>
static inline void keep_codes(const AttnArgs& a, const StepPages& pages, TileScores& ts) {
  for (int j = 0; j < pages.count; j++) {
    const float* scales = (const float*)(pages.page[j] + 64 * (int64_t)a.head_dim) + kTile;
    const __m512 low = _mm512_loadu_ps(scales), high = _mm512_loadu_ps(scales + 16);
    __m512 t[kMaxRows];
    for (int m = 0; m < M; m++) {
      float* s = ts.s[m] + j * kTile;
      const __m512 p0 = _mm512_mul_ps(_mm512_load_ps(s), low), p1 = _mm512_mul_ps(_mm512_load_ps(s + 16), high);
      _mm512_store_ps(s, p0);
      _mm512_store_ps(s + 16, p1);
      t[m] = _mm512_max_ps(p0, p1);
    }
    for (int m = M; m < kMaxRows; m++) t[m] = _mm512_setzero_ps();
    const __m256 unit = _mm256_mul_ps(_mm256_max_ps(across<true>(t), _mm256_set1_ps(1e-30f)), _mm256_set1_ps(1.0f / 255.0f));
    _mm256_store_ps(ts.unit[j], unit);
    alignas(32) float inverse[kMaxRows];
    _mm256_store_ps(inverse, _mm256_div_ps(_mm256_set1_ps(1.0f), unit));
    for (int m = 0; m < M; m++)
      for (int i = 0; i < 2; i++) {
        const __m512 scaled = _mm512_mul_ps(_mm512_load_ps(ts.s[m] + j * kTile + 16 * i), _mm512_set1_ps(inverse[m]));
        _mm_store_si128((__m128i*)ts.weights[m] + 2 * j + i, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(scaled)));
      }
  }
}

// Rescales the states whose maximum moves to `top`; returns the new maxima.
template <int M>
static inline __m256 raise_tops(const __m512 peaks[kMaxRows], __m512 factor, int dim, AttnState* st) {
  const __m256 before = _mm256_loadu_ps(st->m), peak = _mm256_mul_ps(across<true>(peaks), _mm512_castps512_ps256(factor));
  const __m256 top = _mm256_max_ps(before, peak);
  const uint32_t moved = _mm256_cmp_ps_mask(top, before, _CMP_GT_OQ) & ((1u << M) - 1);
  if (!moved) return top;
  alignas(32) float keep[kMaxRows];
  __m256 factors = _mm512_castps512_ps256(weight_of(_mm512_castps256_ps512(_mm256_sub_ps(before, top)), 0xffff));
  _mm256_store_ps(keep, factors);
  _mm256_storeu_ps(st->l, _mm256_mul_ps(_mm256_loadu_ps(st->l), factors));
  _mm256_storeu_ps(st->m, top);
  for (int m = 0; m < M; m++)
    if (moved >> m & 1)
      for (int d = 0; d < dim; d += 16)
        _mm512_storeu_ps(st->o[m] + d, _mm512_mul_ps(_mm512_loadu_ps(st->o[m] + d), _mm512_set1_ps(keep[m])));
  return top;
}

// Scores -> weights; rescales the states whose maximum moved. ALL: every row sees every key.
template <int32_t FORMAT, int M, bool ALL>
static inline void step_softmax(const AttnArgs& a, const QueryRows& q, const StepPages& pages, TileScores& ts, AttnState* st) {
  const __m512 factor = _mm512_set1_ps(a.scale * 1.44269504f), lowest = _mm512_set1_ps(kLowest);
  uint32_t seen[M][kStepPages];
  __m512 t[kMaxRows];
  for (int m = 0; m < M; m++) {
    __m512 peak = lowest;
    for (int j = 0; j < pages.count; j++) {
      seen[m][j] = ALL ? ~0u : visible_keys(pages.key[j], q.position[m], a.window);
      for (int i = 0; i < 2; i++) {
        const __m512 x = _mm512_load_ps(ts.s[m] + j * kTile + 16 * i);
        peak = ALL ? _mm512_max_ps(x, peak) : _mm512_mask_max_ps(peak, (__mmask16)(seen[m][j] >> 16 * i), x, peak);
      }
    }
    t[m] = peak;
  }
  for (int m = M; m < kMaxRows; m++) t[m] = lowest;
  alignas(32) float tops[kMaxRows];
  _mm256_store_ps(tops, raise_tops<M>(t, factor, a.head_dim, st));
  for (int m = 0; m < M; m++) {
    const __m512 shift = _mm512_set1_ps(tops[m]);
    __m512 total = _mm512_setzero_ps();
    for (int j = 0; j < pages.count; j++) {
      float* s = ts.s[m] + j * kTile;
      __m512 p[2];
      for (int i = 0; i < 2; i++)
        p[i] = weight_of(_mm512_fmsub_ps(_mm512_load_ps(s + 16 * i), factor, shift), (__mmask16)(seen[m][j] >> 16 * i));
      const __m512 both = _mm512_add_ps(p[0], p[1]);
      total = _mm512_add_ps(total, both);
#ifdef TIER_BF16
      if constexpr (FORMAT == kKvBf16) {
        _mm512_store_si512(ts.weights[m] + j * kTile / 2, (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]));
        continue;
      }
#endif
      for (int i = 0; i < 2; i++) _mm512_store_ps(s + 16 * i, p[i]);
    }
    t[m] = total;
  }
  for (int m = M; m < kMaxRows; m++) t[m] = _mm512_setzero_ps();
  _mm256_storeu_ps(st->l, _mm256_add_ps(_mm256_loadu_ps(st->l), across<false>(t)));
  if constexpr (FORMAT == kKvInt8) keep_codes<M>(a, pages, ts);
}

// 128 bytes of the page that comes a step later: pages lie anywhere, so that no prefetcher of the CPU
// finds them.
IN_PLACE void fetch_behind(const uint8_t* here, int64_t next) {
  if (!next) return;
  fetch_line(here + next);
  fetch_line(here + next + 64);
}

#ifdef TIER_BF16
#include "attention_bf16.inl"
#endif
#include "attention_int8.inl"

template <int32_t FORMAT, int M>
static void step_scores(const AttnArgs& a, const QueryRows& q, const StepPages& pages, TileScores& ts) {
  for (int j = 0; j < pages.count; j++) {
#ifdef TIER_BF16
    if constexpr (FORMAT == kKvBf16) key_product_bf16<M>(q, pages.page[j], pages.next[j], a.head_dim, ts, j * kTile);
#endif
    if constexpr (FORMAT == kKvInt8) key_product_int8<M>(q, pages.page[j], pages.next[j], a.head_dim, ts, j * kTile);
  }
}

template <int32_t FORMAT, int M>
static void step_values(const AttnArgs& a, const StepPages& pages, const TileScores& ts, AttnState* st) {
#ifdef TIER_BF16
  if constexpr (FORMAT == kKvBf16) return value_product_bf16<M>(ts, pages, a.head_dim, st->o);
#endif
  if constexpr (FORMAT == kKvInt8) value_product_int8<M>(ts, pages, a.head_dim, st->o);
}

template <int32_t FORMAT, int M>
static void attend_rows(const AttnArgs& a, const QueryRows& q, const StepPages& pages, AttnState* st) {
  TileScores ts;
  step_scores<FORMAT, M>(a, q, pages, ts);
  const int last = pages.key[pages.count - 1] + kTile - 1;
  if (last <= q.least && !(a.window && pages.key[0] <= q.most - a.window))
    step_softmax<FORMAT, M, true>(a, q, pages, ts, st);
  else
    step_softmax<FORMAT, M, false>(a, q, pages, ts, st);
  step_values<FORMAT, M>(a, pages, ts, st);
}

// A tile of rows against the pages of a step.
template <int32_t FORMAT>
static void attend_step(const AttnArgs& a, int rows, const QueryRows& q, const StepPages& pages, AttnState* st) {
  switch (rows) {
    case 1: return attend_rows<FORMAT, 1>(a, q, pages, st);
    case 2: return attend_rows<FORMAT, 2>(a, q, pages, st);
    case 3: return attend_rows<FORMAT, 3>(a, q, pages, st);
    case 4: return attend_rows<FORMAT, 4>(a, q, pages, st);
    case 5: return attend_rows<FORMAT, 5>(a, q, pages, st);
    case 6: return attend_rows<FORMAT, 6>(a, q, pages, st);
    case 7: return attend_rows<FORMAT, 7>(a, q, pages, st);
    default: return attend_rows<FORMAT, 8>(a, q, pages, st);
  }
}
