// AVX-512 BF16 attention: keys pair-packed along D, values along tokens. Softmax works on all rows
// of a tile at once; its weights are rounded to bf16 for the second product.
#define ATTENTION_BF16

// 2^x for x <= 0: minimax of degree 4 on [-0.5, 0.5] (3e-6 relative, where bf16 keeps 2e-3).
// Exactly 1 at 0 and exactly 0 below -126: masked keys must not leave a trace.
static inline __m512 weight_of(__m512 x) {
  __mmask16 heard = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  __m512 y = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
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

// Scores -> bf16 weights; rescales the states whose maximum moved.
template <int M>
static inline void softmax_rows(const float (*s)[kTile], const int32_t* position, int key, int window, float scale, int dim,
                                AttnState* st, uint32_t (*weights)[kTile / 2]) {
  const __m512 factor = _mm512_set1_ps(scale), lowest = _mm512_set1_ps(kLowest), never = _mm512_set1_ps(-__builtin_inff());
  __m512 x[M][2], t[kMaxRows];
  for (int m = 0; m < M; m++) {
    for (int i = 0; i < 2; i++) x[m][i] = _mm512_mul_ps(_mm512_load_ps(s[m] + 16 * i), factor);
    const uint32_t seen = visible_keys(key, position[m], window);
    if (seen != ~0u) {
      x[m][0] = _mm512_mask_mov_ps(never, (__mmask16)seen, x[m][0]);
      x[m][1] = _mm512_mask_mov_ps(never, (__mmask16)(seen >> 16), x[m][1]);
    }
    t[m] = _mm512_max_ps(_mm512_max_ps(x[m][0], x[m][1]), lowest);
  }
  for (int m = M; m < kMaxRows; m++) t[m] = lowest;
  const __m256 before = _mm256_loadu_ps(st->m), top = _mm256_max_ps(before, across<true>(t));
  __m256 total = _mm256_loadu_ps(st->l);
  const uint32_t moved = _mm256_cmp_ps_mask(top, before, _CMP_GT_OQ) & ((1u << M) - 1);
  if (moved) {
    alignas(32) float keep[kMaxRows];
    __m256 factors = _mm512_castps512_ps256(weight_of(_mm512_castps256_ps512(_mm256_sub_ps(before, top))));
    _mm256_store_ps(keep, factors);
    total = _mm256_mul_ps(total, factors);
    for (int m = 0; m < M; m++)
      if (moved >> m & 1)
        for (int d = 0; d < dim; d += 16)
          _mm512_storeu_ps(st->o[m] + d, _mm512_mul_ps(_mm512_loadu_ps(st->o[m] + d), _mm512_set1_ps(keep[m])));
    _mm256_storeu_ps(st->m, top);
  }
  alignas(32) float tops[kMaxRows];
  _mm256_store_ps(tops, top);
  for (int m = 0; m < M; m++) {
    __m512 shift = _mm512_set1_ps(tops[m]);
    __m512 low = weight_of(_mm512_sub_ps(x[m][0], shift)), high = weight_of(_mm512_sub_ps(x[m][1], shift));
    _mm512_store_si512(weights[m], (__m512i)_mm512_cvtne2ps_pbh(high, low));
    t[m] = _mm512_add_ps(low, high);
  }
  for (int m = M; m < kMaxRows; m++) t[m] = _mm512_setzero_ps();
  _mm256_storeu_ps(st->l, _mm256_add_ps(total, across<false>(t)));
}

template <int M>
static inline void value_product(const uint32_t (*weights)[kTile / 2], const uint8_t* page, int dim, float (*o)[kMaxHeadDim]) {
  const uint8_t* v = page + (int64_t)dim * kTile * 2;
  for (int n = 0; n < dim; n += 32) {
    __m512 acc[M][2];
    for (int m = 0; m < M; m++) {
      acc[m][0] = _mm512_loadu_ps(o[m] + n);
      acc[m][1] = _mm512_loadu_ps(o[m] + n + 16);
    }
#pragma GCC unroll 4
    for (int t = 0; t < kTile / 2; t++, v += 128) {
      __m512bh v0 = (__m512bh)_mm512_loadu_si512(v), v1 = (__m512bh)_mm512_loadu_si512(v + 64);
      for (int m = 0; m < M; m++) {
        __m512bh w = (__m512bh)_mm512_set1_epi32((int)weights[m][t]);
        acc[m][0] = _mm512_dpbf16_ps(acc[m][0], w, v0);
        acc[m][1] = _mm512_dpbf16_ps(acc[m][1], w, v1);
      }
    }
    for (int m = 0; m < M; m++) {
      _mm512_storeu_ps(o[m] + n, acc[m][0]);
      _mm512_storeu_ps(o[m] + n + 16, acc[m][1]);
    }
  }
}

// The key product, over pairs [D/2][rows] laid out as in QueryRows.
template <int M>
static inline void key_product(const uint32_t (*pairs)[kMaxRows], const uint8_t* k, int dim, float s[][kTile]) {
  __m512 acc[M][2] = {};
#pragma GCC unroll 4
  for (int d = 0; d < dim / 2; d++, k += 128) {
    __m512bh k0 = (__m512bh)_mm512_loadu_si512(k), k1 = (__m512bh)_mm512_loadu_si512(k + 64);
    for (int m = 0; m < M; m++) {
      __m512bh x = (__m512bh)_mm512_set1_epi32((int)pairs[d][m]);
      acc[m][0] = _mm512_dpbf16_ps(acc[m][0], x, k0);
      acc[m][1] = _mm512_dpbf16_ps(acc[m][1], x, k1);
    }
  }
  for (int m = 0; m < M; m++) {
    _mm512_store_ps(s[m], acc[m][0]);
    _mm512_store_ps(s[m] + 16, acc[m][1]);
  }
}

template <int M>
static void attend_bf16(const AttnArgs& a, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
  alignas(64) float s[M][kTile];
  alignas(64) uint32_t weights[M][kTile / 2];
  key_product<M>(q.pairs, page, a.head_dim, s);
  softmax_rows<M>(s, q.position, key, a.window, a.scale * 1.44269504f, a.head_dim, st, weights);
  value_product<M>(weights, page, a.head_dim, st->o);
}
