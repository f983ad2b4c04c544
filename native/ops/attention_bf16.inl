// AVX-512 BF16 products: keys pair-packed along D, values along tokens.
#define ATTENTION_BF16

template <int M>
static inline void key_product_bf16(const QueryRows& q, const uint8_t* k, int64_t next, int dim, TileScores& ts, int at) {
  __m512 acc[M][2] = {};
#pragma GCC unroll 4
  for (int d = 0; d < dim / 2; d++, k += 128) {
    fetch_behind(k, next);
    __m512bh k0 = (__m512bh)_mm512_loadu_si512(k), k1 = (__m512bh)_mm512_loadu_si512(k + 64);
    for (int m = 0; m < M; m++) {
      __m512bh x = (__m512bh)_mm512_set1_epi32((int)q.pairs[d][m]);
      acc[m][0] = _mm512_dpbf16_ps(acc[m][0], x, k0);
      acc[m][1] = _mm512_dpbf16_ps(acc[m][1], x, k1);
    }
  }
  for (int m = 0; m < M; m++) {
    _mm512_store_ps(ts.s[m] + at, acc[m][0]);
    _mm512_store_ps(ts.s[m] + at + 16, acc[m][1]);
  }
}

template <int M>
static inline void value_product_bf16(const TileScores& ts, const StepPages& pages, int dim, float (*o)[kMaxHeadDim]) {
  for (int n = 0; n < dim; n += 32) {
    __m512 acc[M][2];
    for (int m = 0; m < M; m++) {
      acc[m][0] = _mm512_loadu_ps(o[m] + n);
      acc[m][1] = _mm512_loadu_ps(o[m] + n + 16);
    }
    for (int j = 0; j < pages.count; j++) {
      const uint8_t* v = pages.page[j] + (int64_t)(dim + n) * kTile * 2;
#pragma GCC unroll 4
      for (int t = 0; t < kTile / 2; t++, v += 128) {
        fetch_behind(v, pages.next[j]);
        __m512bh v0 = (__m512bh)_mm512_loadu_si512(v), v1 = (__m512bh)_mm512_loadu_si512(v + 64);
        for (int m = 0; m < M; m++) {
          __m512bh w = (__m512bh)_mm512_set1_epi32((int)ts.weights[m][j * kTile / 2 + t]);
          acc[m][0] = _mm512_dpbf16_ps(acc[m][0], w, v0);
          acc[m][1] = _mm512_dpbf16_ps(acc[m][1], w, v1);
        }
      }
    }
    for (int m = 0; m < M; m++) {
      _mm512_storeu_ps(o[m] + n, acc[m][0]);
      _mm512_storeu_ps(o[m] + n + 16, acc[m][1]);
    }
  }
}
