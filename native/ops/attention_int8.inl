// AVX-512 VNNI products on an 8-bit cache: unsigned keys x signed queries, unsigned weights x signed
// values, integers within a page. Pages are laid out as rows.inl writes them.
#define ATTENTION_INT8

// A query row -> codes in `pairs` [D/4][rows], its unit, and what the keys' offset of 128 adds.
static inline void quantise_query(const float* x, int dim, int m, QueryRows* q) {
  float peak = peak_of(x, dim);
  const float unit = peak > 1e-30f ? peak / 127.0f : 0.0f, inverse = peak > 1e-30f ? 127.0f / peak : 0.0f;
  int32_t sum = 0;
  for (int d = 0; d < dim; d += 16) {
    __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + d), _mm512_set1_ps(inverse)));
    uint32_t four[4];
    _mm_storeu_si128((__m128i*)four, _mm512_cvtsepi32_epi8(code));
    for (int i = 0; i < 4; i++) q->pairs[d / 4 + i][m] = four[i];
    sum += _mm512_reduce_add_epi32(code);
  }
  q->unit[m] = unit;
  q->offset[m] = -128 * sum;
}

template <int M>
static inline void key_product_int8(const QueryRows& q, const uint8_t* page, int64_t next, int dim, TileScores& ts, int at) {
  const uint8_t* k = page;
  __m512i acc[M][2];
  for (int m = 0; m < M; m++) acc[m][0] = acc[m][1] = _mm512_set1_epi32(q.offset[m]);
#pragma GCC unroll 4
  for (int d = 0; d < dim / 4; d++, k += 128) {
    fetch_behind(k, next);
    __m512i k0 = _mm512_loadu_si512(k), k1 = _mm512_loadu_si512(k + 64);
    for (int m = 0; m < M; m++) {
      __m512i x = _mm512_set1_epi32((int)q.pairs[d][m]);
      acc[m][0] = _mm512_dpbusd_epi32(acc[m][0], k0, x);
      acc[m][1] = _mm512_dpbusd_epi32(acc[m][1], k1, x);
    }
  }
  const float* scales = (const float*)(page + 64 * (int64_t)dim);
  fetch_behind(page + 64 * (int64_t)dim, next);
  fetch_behind(page + 64 * (int64_t)dim + 128, next);
  const __m512 low = _mm512_loadu_ps(scales), high = _mm512_loadu_ps(scales + 16);
  for (int m = 0; m < M; m++) {
    const __m512 unit = _mm512_set1_ps(q.unit[m]);
    _mm512_store_ps(ts.s[m] + at, _mm512_mul_ps(_mm512_cvtepi32_ps(acc[m][0]), _mm512_mul_ps(unit, low)));
    _mm512_store_ps(ts.s[m] + at + 16, _mm512_mul_ps(_mm512_cvtepi32_ps(acc[m][1]), _mm512_mul_ps(unit, high)));
  }
}

template <int M>
static inline void value_product_int8(const TileScores& ts, const StepPages& pages, int dim, float (*o)[kMaxHeadDim]) {
  for (int n = 0; n < dim; n += 32) {
    __m512 sum[M][2];
    for (int m = 0; m < M; m++)
      for (int i = 0; i < 2; i++) sum[m][i] = _mm512_loadu_ps(o[m] + n + 16 * i);
    for (int j = 0; j < pages.count; j++) {
      const uint8_t* v = pages.page[j] + (int64_t)(dim + n) * kTile;
      __m512i dot[M][2];
      for (int m = 0; m < M; m++) dot[m][0] = dot[m][1] = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int t = 0; t < kTile / 4; t++, v += 128) {
        fetch_behind(v, pages.next[j]);
        __m512i v0 = _mm512_loadu_si512(v), v1 = _mm512_loadu_si512(v + 64);
        for (int m = 0; m < M; m++) {
          __m512i w = _mm512_set1_epi32((int)ts.weights[m][j * kTile / 4 + t]);
          dot[m][0] = _mm512_dpbusd_epi32(dot[m][0], w, v0);
          dot[m][1] = _mm512_dpbusd_epi32(dot[m][1], w, v1);
        }
      }
      for (int m = 0; m < M; m++)
        for (int i = 0; i < 2; i++)
          sum[m][i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][i]), _mm512_set1_ps(ts.unit[j][m]), sum[m][i]);
    }
    for (int m = 0; m < M; m++)
      for (int i = 0; i < 2; i++) _mm512_storeu_ps(o[m] + n + 16 * i, sum[m][i]);
  }
}
