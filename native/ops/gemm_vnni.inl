// AVX-512 VNNI integer tile: unsigned weights x broadcast signed activations, so that the zero point
// is only the accumulator's start value.
#define TILE_INT8

// One group of 32 along K; acc is in units of its block's activation scale.
template <int M, bool W4, bool ASYM>
static inline void int8_group(const uint8_t*& b, const uint32_t*& a, const int32_t* offsets, __m512 acc[M][2]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i dot[M][2];
  for (int m = 0; m < M; m++)
    dot[m][0] = dot[m][1] = ASYM ? _mm512_setzero_si512() : _mm512_set1_epi32(offsets[m]);
#pragma GCC unroll 8
  for (int step = 0; step < (W4 ? 4 : 8); step++, b += 128) {
    __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
    if (W4) {
      __m512i h0 = _mm512_and_si512(_mm512_srli_epi16(b0, 4), nibble);
      __m512i h1 = _mm512_and_si512(_mm512_srli_epi16(b1, 4), nibble);
      b0 = _mm512_and_si512(b0, nibble);
      b1 = _mm512_and_si512(b1, nibble);
      for (int m = 0; m < M; m++) {
        __m512i x = _mm512_set1_epi32((int)a[m]);
        dot[m][0] = _mm512_dpbusd_epi32(dot[m][0], b0, x);
        dot[m][1] = _mm512_dpbusd_epi32(dot[m][1], b1, x);
      }
      a += kMR;
      b0 = h0;
      b1 = h1;
    }
    for (int m = 0; m < M; m++) {
      __m512i x = _mm512_set1_epi32((int)a[m]);
      dot[m][0] = _mm512_dpbusd_epi32(dot[m][0], b0, x);
      dot[m][1] = _mm512_dpbusd_epi32(dot[m][1], b1, x);
    }
    a += kMR;
  }
  for (int v = 0; v < 2; v++) {
    __m512 s = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(b + v * 32)));
    for (int m = 0; m < M; m++) acc[m][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][v]), s, acc[m][v]);
    if (ASYM) {
      __m512 lowest = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(b + 64 + v * 32)));
      for (int m = 0; m < M; m++)
        acc[m][v] = _mm512_fmadd_ps(lowest, _mm512_set1_ps(as_float(offsets[m])), acc[m][v]);
    }
  }
  b += ASYM ? 128 : 64;
}

template <int M, bool W4, bool ASYM>
static void tile_int8(const uint8_t* b, const uint32_t* a, const float* scales, const int32_t* offsets,
                      int64_t groups, float out[][kPanel]) {
  __m512 acc[M][2] = {};
  for (int64_t g = 0; g < groups;) {
    const int64_t end = groups - g < kBlockGroups ? groups : g + kBlockGroups;
    for (; g < end; g++, offsets += kMR) int8_group<M, W4, ASYM>(b, a, offsets, acc);
    scales += kMR; // into the next block's units; behind the last, into its scale's
    for (int m = 0; m < M; m++)
      for (int v = 0; v < 2; v++) acc[m][v] = _mm512_mul_ps(acc[m][v], _mm512_set1_ps(scales[m]));
  }
  for (int m = 0; m < M; m++)
    for (int v = 0; v < 2; v++) _mm512_storeu_ps(out[m] + v * 16, acc[m][v]);
}
