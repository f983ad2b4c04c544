// AVX-512 BF16 inner products of attention: keys pair-packed along D, values along tokens.
// Softmax weights are rounded to bf16 for the second product.
#define ATTENTION_BF16

template <int M>
static void values_bf16(const float p[][kTile], const uint8_t* page, int dim, float (*o)[kMaxHeadDim]) {
  alignas(64) uint32_t weights[M][kTile / 2];
  for (int m = 0; m < M; m++) {
    __m512bh w = _mm512_cvtne2ps_pbh(_mm512_load_ps(p[m] + 16), _mm512_load_ps(p[m]));
    _mm512_store_si512(weights[m], (__m512i)w);
  }
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
