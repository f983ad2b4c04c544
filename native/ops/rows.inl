// Row ops: RMS norm, residual, packing of activations for a GEMM, rotary embedding and KV write.

static float inverse_rms(const float* x, int64_t n, float eps) {
  vf acc = splat(0.0f);
  int64_t i = 0;
  for (; i + VW <= n; i += VW) {
    vf v = load(x + i);
    acc += v * v;
  }
  float total = sum(acc);
  for (; i < n; i++) total += x[i] * x[i];
  return 1.0f / __builtin_sqrtf(total / (float)n + eps);
}

static void scale_row(const float* x, const float* norm, float factor, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + VW <= n; i += VW) store(out + i, load(x + i) * factor * load(norm + i));
  for (; i < n; i++) out[i] = x[i] * factor * norm[i];
}

static void norm_add(const NormAddArgs& a, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; r++) {
    float* x = a.x + r * a.ldx;
    const float* y = a.y + r * a.ldy;
    float factor = a.norm ? inverse_rms(y, a.width, a.eps) : 1.0f;
    for (int64_t i = 0; i < a.width; i++) {
      float v = a.norm ? y[i] * factor * a.norm[i] : y[i];
      x[i] = a.add ? x[i] + v : v;
    }
  }
}

// Codes of one run at the scale whose inverse is given, rounded to nearest even, and their sum.
#ifdef TIER_VNNI
typedef __m256i CodeSum;
static inline CodeSum pack_run_int8(const float* x, float inverse, uint32_t* units, CodeSum sum) {
  const __m512 factor = _mm512_set1_ps(inverse);
  __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
  __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), factor));
  __m256i codes = _mm256_set_m128i(_mm512_cvtsepi32_epi8(high), _mm512_cvtsepi32_epi8(low));
  alignas(32) uint32_t four[kRun / 4];
  _mm256_store_si256((__m256i*)four, codes);
  for (int i = 0; i < kRun / 4; i++) units[i * kMR] = four[i];
  return _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1), codes);
}
static inline int32_t total_of(CodeSum sum) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}
#else
typedef vi CodeSum;
static inline CodeSum pack_run_int8(const float* x, float inverse, uint32_t* units, CodeSum sum) {
  int8_t codes[kRun];
  for (int i = 0; i < kRun; i += VW) {
    vf v = load(x + i) * inverse + 12582912.0f; // rounds: the low mantissa bits are the integer
    vi q = as_i(v) - 0x4b400000;
    vb narrow = __builtin_convertvector(q, vb);
    __builtin_memcpy(codes + i, &narrow, sizeof narrow);
    sum += q;
  }
  for (int i = 0; i < kRun / 4; i++) __builtin_memcpy(units + i * kMR, codes + 4 * i, 4);
  return sum;
}
static inline int32_t total_of(CodeSum sum) {
  int32_t lanes[VW], s = 0;
  __builtin_memcpy(lanes, &sum, sizeof sum);
  for (int i = 0; i < VW; i++) s += lanes[i];
  return s;
}
#endif

static inline float peak_of(const float* x, int64_t n) {
  vf peak = splat(0.0f);
  for (int64_t i = 0; i < n; i += VW) peak = vmax(peak, vabs(load(x + i)));
  return max_lane(peak);
}

// scale = max|x| / 127 per block. Blocks far below the row's peak share a floor, so that the ratio
// of two scales is finite; a silent row's codes are 0. All scales come first: the codes then wait for
// nothing.
static void pack_row_int8(const PackArgs& a, const float* x, int64_t panel, int lane) {
  const int64_t runs = a.w->k_padded / kRun, blocks = (runs + kBlockRuns - 1) / kBlockRuns;
  const int64_t each = a.w->group_runs, groups = (runs + each - 1) / each;
  uint32_t* units = a.out.units + panel * runs * (kRun / 4) * kMR + lane;
  float* scales = a.out.scales + panel * (blocks + 1) * kMR + lane;
  int32_t* offsets = a.out.offsets + panel * groups * kMR + lane;
  float inverse[kMaxK / kRun / kBlockRuns], top = 0.0f;
  auto end_of = [&](int64_t block) { return runs - block * kBlockRuns < kBlockRuns ? runs : (block + 1) * kBlockRuns; };
  for (int64_t block = 0; block < blocks; block++) {
    const int64_t first = block * kBlockRuns;
    inverse[block] = peak_of(x + first * kRun, (end_of(block) - first) * kRun); // for now the peak
    if (!(inverse[block] <= top)) top = inverse[block];
  }
  const bool silent = !(top > 1e-30f); // 127 / top would overflow
  const float floor = top * 1e-6f > 1e-30f ? top * 1e-6f : 1e-30f;
  float before = 1.0f;
  for (int64_t block = 0; block < blocks; block++) {
    const float peak = inverse[block] < floor ? floor : inverse[block], scale = peak / 127.0f;
    inverse[block] = silent ? 0.0f : 127.0f / peak;
    scales[block * kMR] = block ? before / scale : 1.0f;
    before = scale;
  }
  scales[blocks * kMR] = silent ? 0.0f : before;
  const int zero = a.w->asym ? 0 : a.w->format == kW4 ? -8 : -128;
  for (int64_t block = 0, run = 0; block < blocks; block++) {
    for (const int64_t end = end_of(block); run < end; offsets += kMR) {
      CodeSum sum = {};
      for (int64_t i = 0; i < each && run < end; i++, run++)
        sum = pack_run_int8(x + run * kRun, inverse[block], units + run * (kRun / 4) * kMR, sum);
      const int32_t total = total_of(sum), start = zero * total;
      const float as_float = (float)total;
      __builtin_memcpy(offsets, a.w->asym ? (const void*)&as_float : (const void*)&start, 4);
    }
  }
}

// Takes the outliers out of the row, into pairs of bf16.
static void pack_outliers(const PackArgs& a, float* x, int64_t panel, int lane) {
  const int32_t* columns = a.w->outlier_columns;
  uint32_t* pairs = a.out.outliers + panel * (a.w->outliers / 2) * kMR + lane;
  for (int64_t i = 0; i < a.w->outliers / 2; i++)
    pairs[i * kMR] = pair_bf16(x[columns[2 * i]], x[columns[2 * i + 1]]);
  for (int64_t i = 0; i < a.w->outliers; i++) x[columns[i]] = 0.0f;
}

static void pack_row(const PackArgs& a, float* x, int64_t panel, int lane) {
  const int64_t k = a.w->k_padded;
  if (a.w->format == kF32) {
    uint32_t* u = a.out.units + panel * k * kMR + lane;
    for (int64_t i = 0; i < k; i++) __builtin_memcpy(u + i * kMR, x + i, 4);
  } else if (a.w->format == kBF16) {
    uint32_t* u = a.out.units + panel * (k / 2) * kMR + lane;
    for (int64_t i = 0; i < k / 2; i += VW) { // k is a multiple of 32
      uint32_t pairs[VW];
      pairs_bf16(x + 2 * i, pairs);
      for (int j = 0; j < VW; j++) u[(i + j) * kMR] = pairs[j];
    }
  } else {
    pack_outliers(a, x, panel, lane);
    pack_row_int8(a, x, panel, lane);
  }
}

static void pack(const PackArgs& a, int64_t panel_begin, int64_t panel_end) {
  alignas(64) float row[kMaxK];
  const int64_t k = a.w->k;
  for (int64_t p = panel_begin; p < panel_end; p++) {
    for (int lane = 0; lane < kMR; lane++) {
      int64_t r = p * kMR + lane;
      if (r >= a.num_rows) break; // lanes behind the last row are never read
      const float* x = a.x + (a.rows ? a.rows[r] : r) * a.ld;
      if (a.norm)
        scale_row(x, a.norm, inverse_rms(x, k, a.eps), k, row);
      else
        __builtin_memcpy(row, x, (size_t)k * 4);
      for (int64_t i = k; i < a.w->k_padded; i++) row[i] = 0.0f;
      if (a.sizes)
        for (int64_t i = 0; i < k; i++) a.sizes[i] += __builtin_fabsf(row[i]);
      pack_row(a, row, p, lane);
    }
  }
}

static void rotate(float* x, const float* cos_sin, int head_dim, const float* norm, float eps) {
  const int half = head_dim / 2; // a multiple of 16
  if (norm) scale_row(x, norm, inverse_rms(x, head_dim, eps), head_dim, x);
  for (int i = 0; i < half; i += VW) {
    vf a = load(x + i), b = load(x + i + half), c = load(cos_sin + i), s = load(cos_sin + i + half);
    store(x + i, a * c - b * s);
    store(x + i + half, b * c + a * s);
  }
}

// A head times the orthogonal Hadamard matrix, in place: what a few channels have in excess goes to
// all, so that no channel takes the steps of 8 bits that the others need. Queries and keys are both
// turned, which changes no product of theirs. In blocks where D is no power of two.
//
// Before that, queries are multiplied and keys divided by each channel's own factor, and the keys'
// mean is taken off, which adds the same to all scores of a query: softmax does not see it.
static void spread(float* x, int dim, const float* factor, const float* off) {
  if (factor)
    for (int i = 0; i < dim; i++) x[i] = x[i] * factor[i] - (off ? off[i] : 0.0f);
  const int width = dim & -dim;
  for (int half = 1; half < width; half *= 2)
    for (int at = 0; at < dim; at += 2 * half)
      for (int i = at; i < at + half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
  const float shrink = 1.0f / __builtin_sqrtf((float)width);
  for (int i = 0; i < dim; i++) x[i] *= shrink;
}

// A page holds K [D/2][32][2] then V [D/32][16][32][2] in bf16 (pairs along D for K, along tokens
// for V), or K [D][32] then V [32][D] in float32, or in 8 bits K, spread, [D/4][32][4] (code + 128), V
// [D/32][8][32][4] and a float32 scale for each token's key, then for each one's value.
static float scale_int8(const float* x, int head_dim, float* inverse) {
  float peak = peak_of(x, head_dim);
  *inverse = peak > 1e-30f ? 127.0f / peak : 0.0f;
  return peak > 1e-30f ? peak / 127.0f : 0.0f;
}

// Rounded to nearest even, as pack_run_int8; the product is rounded before, as the reference does it:
// fused with the sum, a tie would go the other way.
static inline int code_int8(float x, float inverse) {
  const float scaled = x * inverse;
#if __has_builtin(__builtin_assoc_barrier)
  float shifted = __builtin_assoc_barrier(scaled) + 12582912.0f;
#else
  float shifted = scaled + 12582912.0f;
#endif
  int32_t bits;
  __builtin_memcpy(&bits, &shifted, 4);
  return bits - 0x4b400000;
}

static void write_int8(uint8_t* page, int head_dim, int offset, const float* k, const float* v) {
  float inverse, *scales = (float*)(page + 64 * (int64_t)head_dim);
  scales[offset] = scale_int8(k, head_dim, &inverse);
  for (int d = 0; d < head_dim; d++) page[d / 4 * 128 + offset * 4 + d % 4] = (uint8_t)(code_int8(k[d], inverse) + 128);
  scales[kTile + offset] = scale_int8(v, head_dim, &inverse);
  int8_t* pv = (int8_t*)page + (int64_t)head_dim * kTile;
  for (int d = 0; d < head_dim; d++) pv[d / 32 * 1024 + offset / 4 * 128 + d % 32 * 4 + offset % 4] = (int8_t)code_int8(v[d], inverse);
}

static void write_kv(uint8_t* page, int32_t format, int head_dim, int offset, const float* k, const float* v) {
  if (format == kKvInt8) return write_int8(page, head_dim, offset, k, v);
  if (format == kKvF32) {
    float *pk = (float*)page, *pv = pk + (int64_t)head_dim * kTile;
    for (int d = 0; d < head_dim; d++) pk[d * kTile + offset] = k[d];
    for (int d = 0; d < head_dim; d++) pv[offset * head_dim + d] = v[d];
    return;
  }
  uint32_t *pk = (uint32_t*)page, pairs[VW];
  uint16_t* pv = (uint16_t*)(page + (int64_t)head_dim * kTile * 2);
  for (int d = 0; d < head_dim / 2; d += VW) {
    pairs_bf16(k + 2 * d, pairs);
    for (int i = 0; i < VW; i++) pk[(d + i) * kTile + offset] = pairs[i];
  }
  for (int d = 0; d < head_dim; d += 2 * VW) {
    pairs_bf16(v + d, pairs);
    uint16_t* line = pv + d / 32 * 1024 + offset / 2 * 64 + d % 32 * 2 + offset % 2;
    for (int i = 0; i < VW; i++) {
      line[4 * i] = (uint16_t)pairs[i];
      line[4 * i + 2] = (uint16_t)(pairs[i] >> 16);
    }
  }
}

// Zeroes V behind `offset`: a masked key's weight is 0, and 0 x NaN of an earlier tenant would not
// be. Only the last row of a fresh block does it, as other threads write the rows before.
static void clear_values_behind(uint8_t* page, int32_t format, int head_dim, int offset) {
  if (format == kKvInt8) { // codes are numbers whatever their bits; both scales count in sums
    float* scales = (float*)(page + 64 * (int64_t)head_dim);
    for (int t = offset + 1; t < kTile; t++) scales[t] = scales[kTile + t] = 0.0f;
    return;
  }
  if (format == kKvF32) {
    float* pv = (float*)page + (int64_t)head_dim * kTile;
    for (int i = (offset + 1) * head_dim; i < kTile * head_dim; i++) pv[i] = 0.0f;
    return;
  }
  uint16_t* pv = (uint16_t*)(page + (int64_t)head_dim * kTile * 2);
  for (int t = offset + 1; t < kTile; t++)
    for (int d = 0; d < head_dim; d++) pv[(d / 32) * 1024 + (t / 2) * 64 + (d % 32) * 2 + t % 2] = 0;
}

static inline uint8_t* page_of(const RopeKVArgs& a, int64_t row) {
  const int32_t block = a.kv->block_table[a.row_slot[row] * a.kv->table_width + a.positions[row] / kTile];
  return a.kv->arena + block * a.kv->block_bytes + a.cache_layer * a.kv->layer_bytes;
}

// Asks for the lines that a row's key and value will be written to: a key is a column of its page, and
// stores that miss wait for memory one behind the other.
static inline void fetch_kv(const RopeKVArgs& a, int64_t row) {
  const int32_t format = a.kv->format, offset = a.positions[row] % kTile, dim = a.head_dim;
  if (format == kKvF32) return;
  const int key_lines = format == kKvInt8 ? dim / 4 : dim / 2, fours = format == kKvInt8 ? 4 : 2;
  for (int h = 0; h < a.num_kv_heads; h++) {
    const uint8_t *page = page_of(a, row) + h * a.kv->page_bytes, *values = page + key_lines * 128;
    for (int i = 0; i < key_lines; i++) __builtin_prefetch(page + i * 128 + offset * 4, 1, 3);
    for (int d = 0; d < dim; d += 32)
      for (int half = 0; half < 2; half++)
        __builtin_prefetch(values + d / 32 * (kTile / fours) * 128 + offset / fours * 128 + half * 64, 1, 3);
    if (format != kKvInt8) continue;
    __builtin_prefetch(page + 64 * (int64_t)dim + offset * 4, 1, 3);
    __builtin_prefetch(page + 64 * (int64_t)dim + kTile * 4 + offset * 4, 1, 3);
  }
}

static void rope_kv(const RopeKVArgs& a, int64_t row_begin, int64_t row_end) {
  constexpr int kAhead = 2; // rows
  const int dim = a.head_dim;
  // A row behind another one of its block finds the lines of keys here.
  auto fetch = [&](int64_t r) {
    if (r < row_end && (r == row_begin || page_of(a, r) != page_of(a, r - 1))) fetch_kv(a, r);
  };
  const bool spreads = a.kv->format == kKvInt8;
  auto frame = [&](int which, int head) { return a.frames ? a.frames + (which * a.num_kv_heads + head) * dim : nullptr; };
  for (int64_t r = row_begin; r < row_begin + kAhead; r++) fetch(r);
  for (int64_t r = row_begin; r < row_end; r++) {
    fetch(r + kAhead);
    float* q = a.qkv + r * a.ld;
    float* k = q + (int64_t)a.num_heads * dim;
    const float* v = k + (int64_t)a.num_kv_heads * dim;
    const int pos = a.positions[r];
    const float* cs = a.cos_sin + (int64_t)pos * dim;
    for (int h = 0; h < a.num_heads; h++) {
      rotate(q + h * dim, cs, dim, a.q_norm, a.eps);
      if (spreads) spread(q + h * dim, dim, frame(0, h / (a.num_heads / a.num_kv_heads)), nullptr);
    }
    uint8_t* page = page_of(a, r);
    for (int h = 0; h < a.num_kv_heads; h++) {
      rotate(k + h * dim, cs, dim, a.k_norm, a.eps);
      if (spreads) spread(k + h * dim, dim, frame(1, h), frame(2, h));
      write_kv(page + h * a.kv->page_bytes, a.kv->format, dim, pos % kTile, k + h * dim, v + h * dim);
      if (a.clears_tail[r]) clear_values_behind(page + h * a.kv->page_bytes, a.kv->format, dim, pos % kTile);
    }
  }
}
