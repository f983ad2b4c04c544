// Peak arithmetic of the tier's own dot product: 12 independent accumulators, nothing loaded.
// Returns the operations of one iteration; 0 where the tier has no such instruction.

static volatile float peak_sink;
static volatile float peak_seed[12]; // zeros the compiler can't know: equal chains would be merged

static double peak(int kind, int64_t iterations) {
  constexpr int kAccumulators = 12;
  vf acc[kAccumulators];
  for (int j = 0; j < kAccumulators; j++) acc[j] = splat(peak_seed[j]);
  vf x = splat(1.0f), y = splat(1e-9f);
  if (kind == 0) {
    for (int64_t i = 0; i < iterations; i++)
      for (int j = 0; j < kAccumulators; j++) acc[j] = acc[j] * x + y; // a chain: cannot be hoisted
    for (int j = 0; j < kAccumulators; j++) peak_sink = sum(acc[j]);
    return kAccumulators * VW * 2;
  }
#ifdef TIER_BF16
  if (kind == 1) {
    __m512 a[kAccumulators];
    for (int j = 0; j < kAccumulators; j++) a[j] = _mm512_set1_ps(peak_seed[j]);
    __m512bh b = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int64_t i = 0; i < iterations; i++) {
      for (int j = 0; j < kAccumulators; j++) a[j] = _mm512_dpbf16_ps(a[j], b, b);
      asm volatile("" : "+v"(b));
    }
    for (int j = 0; j < kAccumulators; j++) peak_sink = _mm512_reduce_add_ps(a[j]);
    return kAccumulators * 64;
  }
#endif
#ifdef TIER_VNNI
  if (kind == 2) {
    __m512i a[kAccumulators], b = _mm512_set1_epi8(1);
    for (int j = 0; j < kAccumulators; j++) a[j] = _mm512_set1_epi32((int)peak_seed[j]);
    for (int64_t i = 0; i < iterations; i++) {
      for (int j = 0; j < kAccumulators; j++) a[j] = _mm512_dpbusd_epi32(a[j], b, b);
      asm volatile("" : "+v"(b));
    }
    for (int j = 0; j < kAccumulators; j++) peak_sink = (float)_mm512_reduce_add_epi32(a[j]);
    return kAccumulators * 128;
  }
#endif
#ifdef TIER_AVX2
  if (kind == 2) {
    __m256i a[kAccumulators], b = _mm256_set1_epi8(1), one = _mm256_set1_epi16(1);
    for (int j = 0; j < kAccumulators; j++) a[j] = _mm256_set1_epi32((int)peak_seed[j]);
    for (int64_t i = 0; i < iterations; i++) {
      for (int j = 0; j < kAccumulators; j++) a[j] = _mm256_add_epi32(a[j], _mm256_madd_epi16(_mm256_maddubs_epi16(b, b), one));
      asm volatile("" : "+x"(b));
    }
    for (int j = 0; j < kAccumulators; j++) peak_sink = (float)_mm256_extract_epi32(a[j], 0);
    return kAccumulators * 64;
  }
#endif
  return 0;
}
