// AVX-512 BF16 tile: vdpbf16ps on pair-packed columns, 6 x 32.
#define TILE_BF16 tile_bf16_dot

template <int M>
static void tile_bf16_dot(const uint8_t* b, const uint32_t* a, int64_t k, Ahead ahead, float* out, int64_t ld) {
  __m512 acc[M][2] = {};
  for (int64_t i = 0; i < k / 2;) {
    const int64_t end = k / 2 - i < kRun / 2 ? k / 2 : i + kRun / 2;
    ahead.fetch();
#pragma GCC unroll 4
    for (; i < end; i++, b += 128, a += kMR) {
      __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + 64);
      for (int m = 0; m < M; m++) {
        __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[m]);
        acc[m][0] = _mm512_dpbf16_ps(acc[m][0], x, b0);
        acc[m][1] = _mm512_dpbf16_ps(acc[m][1], x, b1);
      }
    }
  }
  for (int m = 0; m < M; m++)
    for (int v = 0; v < 2; v++) _mm512_storeu_ps(out + m * ld + v * 16, acc[m][v]);
}
