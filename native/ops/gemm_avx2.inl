// AVX2 integer tile. No VNNI: u8 x s8 pairs are summed by maddubs into int16, which a W4 group of
// 32 never overflows (8 x 2 x 15 x 127 = 30480); W8 codes go through the sign trick (|w| x sign(a, w)),
// widened at each step (2 x 127 x 127 fits).
#define TILE_INT8

template <int ROWS, bool W4, bool ASYM>
IN_PLACE void int8_block(const Int8Operands& o, int row, int half, float* out, int64_t ld) {
  const uint8_t *b = o.b, *scale = nullptr;
  const uint32_t* a = o.a + row;
  const float* scales = o.scales + row;
  const int32_t* offsets = o.offsets + row;
  __m256 acc[ROWS][2] = {};
  const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
  for (int64_t run = 0, end = 0; run < o.runs; run++, a += kRun / 4 * kMR) {
    const bool begins = run == end; // a group: each of its runs is scaled by itself
    if (begins) {
      end = o.runs - run < o.group_runs ? o.runs : run + o.group_runs;
      scale = b + (end - run) * (W4 ? 512 : 1024) + half * 32;
    }
    if (run && run % kBlockRuns == 0) {
      scales += kMR;
      for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < 2; v++) acc[m][v] = _mm256_mul_ps(acc[m][v], _mm256_set1_ps(scales[m]));
    }
    __m256i dot[ROWS][2] = {};
    for (int step = 0; step < (W4 ? 4 : 8); step++) {
      const __m256i* line = (const __m256i*)(b + step * 128 + half * 64);
      __m256i b0 = _mm256_loadu_si256(line), b1 = _mm256_loadu_si256(line + 1);
      if (W4) {
        __m256i h0 = _mm256_and_si256(_mm256_srli_epi16(b0, 4), nibble);
        __m256i h1 = _mm256_and_si256(_mm256_srli_epi16(b1, 4), nibble);
        b0 = _mm256_and_si256(b0, nibble);
        b1 = _mm256_and_si256(b1, nibble);
        for (int m = 0; m < ROWS; m++) {
          __m256i low = _mm256_set1_epi32((int)a[2 * step * kMR + m]);
          __m256i high = _mm256_set1_epi32((int)a[(2 * step + 1) * kMR + m]);
          dot[m][0] = _mm256_add_epi16(dot[m][0], _mm256_maddubs_epi16(b0, low));
          dot[m][1] = _mm256_add_epi16(dot[m][1], _mm256_maddubs_epi16(b1, low));
          dot[m][0] = _mm256_add_epi16(dot[m][0], _mm256_maddubs_epi16(h0, high));
          dot[m][1] = _mm256_add_epi16(dot[m][1], _mm256_maddubs_epi16(h1, high));
        }
      } else {
        if (!ASYM) {
          b0 = _mm256_xor_si256(b0, _mm256_set1_epi8((char)0x80));
          b1 = _mm256_xor_si256(b1, _mm256_set1_epi8((char)0x80));
        }
        // Asymmetric codes are at most 127, so they are their own magnitude with a positive sign.
        __m256i p0 = ASYM ? b0 : _mm256_abs_epi8(b0), p1 = ASYM ? b1 : _mm256_abs_epi8(b1);
        for (int m = 0; m < ROWS; m++) {
          __m256i x = _mm256_set1_epi32((int)a[step * kMR + m]);
          __m256i d0 = _mm256_maddubs_epi16(p0, ASYM ? x : _mm256_sign_epi8(x, b0));
          __m256i d1 = _mm256_maddubs_epi16(p1, ASYM ? x : _mm256_sign_epi8(x, b1));
          dot[m][0] = _mm256_add_epi32(dot[m][0], _mm256_madd_epi16(d0, ones));
          dot[m][1] = _mm256_add_epi32(dot[m][1], _mm256_madd_epi16(d1, ones));
        }
      }
    }
    for (int v = 0; v < 2; v++) {
      __m256 s = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(scale + v * 16)));
      __m256 lowest = ASYM ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(scale + 64 + v * 16)))
                           : _mm256_setzero_ps();
      for (int m = 0; m < ROWS; m++) {
        __m256i d = W4 ? _mm256_madd_epi16(dot[m][v], ones) : dot[m][v];
        if (W4 && !ASYM && begins) d = _mm256_add_epi32(d, _mm256_set1_epi32(offsets[m]));
        acc[m][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), s, acc[m][v]);
        if (ASYM && begins) acc[m][v] = _mm256_fmadd_ps(lowest, _mm256_set1_ps(as_float(offsets[m])), acc[m][v]);
      }
    }
    b += W4 ? 512 : 1024;
    if (run + 1 < end) continue;
    b += ASYM ? 128 : 64;
    offsets += kMR;
  }
  for (int m = 0; m < ROWS; m++)
    for (int v = 0; v < 2; v++)
      _mm256_storeu_ps(out + m * ld + half * 16 + v * 8, _mm256_mul_ps(acc[m][v], _mm256_set1_ps(scales[kMR + m])));
}

// Rows go in threes: 6 float and 6 integer accumulators leave room for the operands.
template <int M, bool W4, bool ASYM>
static void tile_int8(const Int8Operands& o, Ahead, float* out, int64_t ld) {
  constexpr int kFirst = M < 3 ? M : 3;
  for (int half = 0; half < 2; half++) {
    int8_block<kFirst, W4, ASYM>(o, 0, half, out, ld);
    if constexpr (M > 3) int8_block<M - 3, W4, ASYM>(o, 3, half, out + 3 * ld, ld);
  }
}
