// AVX-512 VNNI integer tile: unsigned weights x broadcast signed activations, so that the zero point
// is only the accumulator's start value. With bf16 products, the columns beside go onto the same sums.
#define TILE_INT8
#ifdef TIER_BF16
#define BESIDE_IN_TILE
#endif

// One run of 32 along K.
template <int M, bool W4>
IN_PLACE void int8_run(const uint8_t*& b, const uint32_t*& a, Ahead& ahead, __m512i dot[M][2]) {
  ahead.fetch();
  const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 8
  for (int step = 0; step < (W4 ? 4 : 8); step++, b += 128) {
    // With a row there is time to reorder, but the CPU's prefetcher wants lines in order.
    if (M == 1) __asm__ volatile("" ::: "memory");
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
}

// A group of `runs`, onto acc, which is in units of the block's activation scale.
template <int M, bool W4, bool ASYM>
IN_PLACE void int8_group(const uint8_t*& b, const uint32_t*& a, const int32_t*& offsets, int64_t runs, Ahead& ahead,
                              __m512 acc[M][2]) {
  __m512i dot[M][2];
  for (int m = 0; m < M; m++)
    dot[m][0] = dot[m][1] = ASYM ? _mm512_setzero_si512() : _mm512_set1_epi32(offsets[m]);
  int8_run<M, W4>(b, a, ahead, dot);
#pragma GCC unroll 1
  for (int64_t i = 1; i < runs; i++) int8_run<M, W4>(b, a, ahead, dot);
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
  offsets += kMR;
}

// EACH: runs of a group, where that is known to be 1; 0: as the operands have it.
template <int M, bool W4, bool ASYM, int EACH>
static inline void int8_tile(const Int8Operands& o, Ahead ahead, float* out, int64_t ld) {
  const uint8_t* b = o.b;
  const uint32_t* a = o.a;
  const float* scales = o.scales;
  const int32_t* offsets = o.offsets;
  __m512 acc[M][2] = {};
  for (int64_t run = 0; run < o.runs;) {
    const int64_t end = o.runs - run < kBlockRuns ? o.runs : run + kBlockRuns;
    while (run < end) {
      const int64_t each = EACH ? EACH : o.group_runs < end - run ? o.group_runs : end - run;
      int8_group<M, W4, ASYM>(b, a, offsets, each, ahead, acc);
      run += each;
    }
    scales += kMR; // into the next block's units; behind the last, into its scale's
    for (int m = 0; m < M; m++)
      for (int v = 0; v < 2; v++) acc[m][v] = _mm512_mul_ps(acc[m][v], _mm512_set1_ps(scales[m]));
  }
#ifdef TIER_BF16
  const uint8_t* beside = o.beside_b;
#pragma GCC unroll 1
  for (int64_t i = 0; i < o.beside; i++, beside += 128) {
    __m512bh b0 = (__m512bh)_mm512_loadu_si512(beside), b1 = (__m512bh)_mm512_loadu_si512(beside + 64);
    for (int m = 0; m < M; m++) {
      __m512bh x = (__m512bh)_mm512_set1_epi32((int)o.beside_a[i * kMR + m]);
      acc[m][0] = _mm512_dpbf16_ps(acc[m][0], x, b0);
      acc[m][1] = _mm512_dpbf16_ps(acc[m][1], x, b1);
    }
  }
#endif
  for (int m = 0; m < M; m++)
    for (int v = 0; v < 2; v++) _mm512_storeu_ps(out + m * ld + v * 16, acc[m][v]);
}

template <int M, bool W4, bool ASYM>
static void tile_int8(const Int8Operands& o, Ahead ahead, float* out, int64_t ld) {
  if (o.group_runs == 1) return int8_tile<M, W4, ASYM, 1>(o, ahead, out, ld);
  int8_tile<M, W4, ASYM, 0>(o, ahead, out, ld);
}
