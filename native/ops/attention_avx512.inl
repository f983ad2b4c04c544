// AVX-512 attention: softmax on all rows of a tile at once. The products are in attention_bf16.inl and
// attention_int8.inl.

// 2^x for x <= 0, where `heard`, else exactly 0: masked keys must not leave a trace. Minimax of
// degree 4 on [-0.5, 0.5] (3e-6 relative, where bf16 keeps 2e-3); below -126 it stays at 2^-126.
static inline __m512 weight_of(__m512 x, __mmask16 heard) {
  __m512 y = _mm512_max_ps(_mm512_set1_ps(-126.0f), x); // in this order NaN stays
  __m512 n = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(y, n);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(9.5828527e-3f), f, _mm512_set1_ps(5.5906425e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4024099e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9312419e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(heard, p, n);
}

template <bool MAX> static inline __m512 joined(__m512 a, __m512 b) {
  return MAX ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
}

// Eight rows of 16 to a maximum (or sum) each, lane m of row m: by one tree for every row, so that
// a row's result does not depend on how many rows there are.
template <bool MAX> static inline __m256 across(const __m512 t[8]) {
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

// The keys of the tile that a row sees, a bit each.
static inline uint32_t visible_keys(int key, int position, int window) {
  const int hidden_from = position - key + 1, hidden_below = window ? hidden_from - window : 0;
  uint32_t seen = hidden_from >= kTile ? ~0u : hidden_from <= 0 ? 0 : (1u << hidden_from) - 1;
  if (hidden_below >= kTile) return 0;
  return hidden_below > 0 ? seen & ~0u << hidden_below : seen;
}

// What a page's products leave for its softmax and it for them, of one tile of rows.
struct TileScores {
  alignas(64) float s[kMaxRows][kTile];
  alignas(64) uint32_t weights[kMaxRows][kTile / 2]; // pairs of bf16, or fours of 8-bit codes
  alignas(64) float unit[kMaxRows];                  // of the codes
};

// Weights of 32 keys, for the second product. 8-bit codes: what a key's value is scaled by goes
// with its weight, and each row's codes have a unit of their own.
template <int32_t FORMAT, int M>
static inline void keep_weights(const __m512 (*p)[2], const float* value_scales, TileScores& ts) {
#ifdef TIER_BF16
  if constexpr (FORMAT == kKvBf16) {
    for (int m = 0; m < M; m++) _mm512_store_si512(ts.weights[m], (__m512i)_mm512_cvtne2ps_pbh(p[m][1], p[m][0]));
    return;
  }
#endif
  const __m512 low = _mm512_loadu_ps(value_scales), high = _mm512_loadu_ps(value_scales + 16);
  __m512 scaled[M][2], t[kMaxRows];
  for (int m = 0; m < M; m++) {
    scaled[m][0] = _mm512_mul_ps(p[m][0], low);
    scaled[m][1] = _mm512_mul_ps(p[m][1], high);
    t[m] = _mm512_max_ps(scaled[m][0], scaled[m][1]);
  }
  for (int m = M; m < kMaxRows; m++) t[m] = _mm512_setzero_ps();
  const __m256 unit = _mm256_mul_ps(_mm256_max_ps(across<true>(t), _mm256_set1_ps(1e-30f)), _mm256_set1_ps(1.0f / 255.0f));
  _mm256_store_ps(ts.unit, unit);
  alignas(32) float inverse[kMaxRows];
  _mm256_store_ps(inverse, _mm256_div_ps(_mm256_set1_ps(1.0f), unit));
  for (int m = 0; m < M; m++) {
    for (int i = 0; i < 2; i++) {
      __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(scaled[m][i], _mm512_set1_ps(inverse[m])));
      _mm_store_si128((__m128i*)ts.weights[m] + i, _mm512_cvtusepi32_epi8(code));
    }
  }
}

// Scores -> weights; rescales the states whose maximum moved.
template <int32_t FORMAT, int M>
static inline void page_softmax(const AttnArgs& a, const QueryRows& q, const float* value_scales, int key, TileScores& ts, AttnState* st) {
  const __m512 factor = _mm512_set1_ps(a.scale * 1.44269504f), lowest = _mm512_set1_ps(kLowest), never = _mm512_set1_ps(-__builtin_inff());
  uint32_t seen[M];
  __m512 x[M][2], t[kMaxRows];
  for (int m = 0; m < M; m++) {
    for (int i = 0; i < 2; i++) x[m][i] = _mm512_load_ps(ts.s[m] + 16 * i);
    seen[m] = visible_keys(key, q.position[m], a.window);
    if (seen[m] != ~0u) {
      x[m][0] = _mm512_mask_mov_ps(never, (__mmask16)seen[m], x[m][0]);
      x[m][1] = _mm512_mask_mov_ps(never, (__mmask16)(seen[m] >> 16), x[m][1]);
    }
    t[m] = _mm512_max_ps(_mm512_max_ps(x[m][0], x[m][1]), lowest);
  }
  for (int m = M; m < kMaxRows; m++) t[m] = lowest;
  const __m256 before = _mm256_loadu_ps(st->m), peak = _mm256_mul_ps(across<true>(t), _mm512_castps512_ps256(factor));
  const __m256 top = _mm256_max_ps(before, peak);
  __m256 total = _mm256_loadu_ps(st->l);
  const uint32_t moved = _mm256_cmp_ps_mask(top, before, _CMP_GT_OQ) & ((1u << M) - 1);
  if (moved) {
    alignas(32) float keep[kMaxRows];
    __m256 factors = _mm512_castps512_ps256(weight_of(_mm512_castps256_ps512(_mm256_sub_ps(before, top)), 0xffff));
    _mm256_store_ps(keep, factors);
    total = _mm256_mul_ps(total, factors);
    for (int m = 0; m < M; m++)
      if (moved >> m & 1)
        for (int d = 0; d < a.head_dim; d += 16)
          _mm512_storeu_ps(st->o[m] + d, _mm512_mul_ps(_mm512_loadu_ps(st->o[m] + d), _mm512_set1_ps(keep[m])));
    _mm256_storeu_ps(st->m, top);
  }
  alignas(32) float tops[kMaxRows];
  _mm256_store_ps(tops, top);
  for (int m = 0; m < M; m++) {
    __m512 shift = _mm512_set1_ps(tops[m]);
    x[m][0] = weight_of(_mm512_fmsub_ps(x[m][0], factor, shift), (__mmask16)seen[m]);
    x[m][1] = weight_of(_mm512_fmsub_ps(x[m][1], factor, shift), (__mmask16)(seen[m] >> 16));
    t[m] = _mm512_add_ps(x[m][0], x[m][1]);
  }
  for (int m = M; m < kMaxRows; m++) t[m] = _mm512_setzero_ps();
  _mm256_storeu_ps(st->l, _mm256_add_ps(total, across<false>(t)));
  keep_weights<FORMAT, M>(x, value_scales, ts);
}

// Of 128 bytes of the next page one line: pages lie anywhere, so that no prefetcher of the CPU finds
// them, but it brings a line's neighbour. Both lines by software would be slower: 24 may be on the way.
static inline void fetch_behind(const uint8_t* here, int64_t next) {
  if (next) __builtin_prefetch(here + next, 0, 2);
}

#ifdef TIER_BF16
#include "attention_bf16.inl"
#endif
#include "attention_int8.inl"

template <int32_t FORMAT, int M>
static void page_scores(const AttnArgs& a, const QueryRows& q, const uint8_t* page, int64_t next, TileScores& ts) {
#ifdef TIER_BF16
  if constexpr (FORMAT == kKvBf16) return key_product_bf16<M>(q, page, next, a.head_dim, ts);
#endif
  if constexpr (FORMAT == kKvInt8) key_product_int8<M>(q, page, next, a.head_dim, ts);
}

template <int32_t FORMAT, int M>
static void page_values(const AttnArgs& a, const uint8_t* page, int64_t next, const TileScores& ts, AttnState* st) {
#ifdef TIER_BF16
  if constexpr (FORMAT == kKvBf16) return value_product_bf16<M>(ts, page, next, a.head_dim, st->o);
#endif
  if constexpr (FORMAT == kKvInt8) value_product_int8<M>(ts, page, next, a.head_dim, st->o);
}

#define FOR_ROWS(rows, call, ...)                 \
  switch (rows) {                                 \
    case 1: call<FORMAT, 1>(__VA_ARGS__); break;  \
    case 2: call<FORMAT, 2>(__VA_ARGS__); break;  \
    case 3: call<FORMAT, 3>(__VA_ARGS__); break;  \
    case 4: call<FORMAT, 4>(__VA_ARGS__); break;  \
    case 5: call<FORMAT, 5>(__VA_ARGS__); break;  \
    case 6: call<FORMAT, 6>(__VA_ARGS__); break;  \
    case 7: call<FORMAT, 7>(__VA_ARGS__); break;  \
    default: call<FORMAT, 8>(__VA_ARGS__); break; \
  }

// A tile of rows against a page. `next`: how far behind it the one lies that comes after it, or 0.
template <int32_t FORMAT>
static void attend_page(const AttnArgs& a, const AttnUnit& u, const QueryRows& q, const uint8_t* page, int64_t next, int key, AttnState* st) {
  TileScores ts;
  const float* value_scales = (const float*)(page + 64 * (int64_t)a.head_dim) + kTile;
  FOR_ROWS(u.rows, page_scores, a, q, page, next, ts)
  FOR_ROWS(u.rows, page_softmax, a, q, value_scales, key, ts, st)
  FOR_ROWS(u.rows, page_values, a, page, next, ts, st)
}
#undef FOR_ROWS
