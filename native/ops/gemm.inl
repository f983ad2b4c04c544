// Linear layers: C = A B^T from packed rows and panels, any format, with a fused epilogue.
// K is walked in one order for every M, so that a row's result never depends on its neighbours.
// A tier may define TILE_W8 / TILE_W4 / TILE_BF16 to replace the portable tiles below.

// Columns are taken in blocks of two vectors: 6 rows x 2 accumulators fit every register file.
constexpr int kBlock = 2 * VW;

template <int M>
static void tile_f32(const uint8_t* b, const uint32_t* a, int64_t k, float* out, int64_t ld) {
  const float *fb = (const float*)b, *fa = (const float*)a;
  for (int n = 0; n < kPanel; n += kBlock) {
    vf acc[M][2] = {};
    for (int64_t i = 0; i < k; i++) {
      vf b0 = load(fb + i * kPanel + n), b1 = load(fb + i * kPanel + n + VW);
      for (int m = 0; m < M; m++) {
        float x = fa[i * kMR + m];
        acc[m][0] += b0 * x;
        acc[m][1] += b1 * x;
      }
    }
    for (int m = 0; m < M; m++) {
      store(out + m * ld + n, acc[m][0]);
      store(out + m * ld + n + VW, acc[m][1]);
    }
  }
}

#ifndef TILE_BF16
#define TILE_BF16 tile_bf16_portable
#endif
template <int M>
static inline void tile_bf16_portable(const uint8_t* b, const uint32_t* a, int64_t k, Ahead, float* out, int64_t ld) {
  const uint32_t* pb = (const uint32_t*)b;
  for (int n = 0; n < kPanel; n += kBlock) {
    vf acc[M][2] = {};
    for (int64_t i = 0; i < k / 2; i++) {
      vi b0 = load_i(pb + i * kPanel + n), b1 = load_i(pb + i * kPanel + n + VW);
      vf b0_low = as_f(b0 << 16), b1_low = as_f(b1 << 16);
      vf b0_high = as_f(b0 & (int)0xffff0000), b1_high = as_f(b1 & (int)0xffff0000);
      for (int m = 0; m < M; m++) {
        uint32_t pair = a[i * kMR + m];
        float low = from_bf16((uint16_t)pair), high = from_bf16((uint16_t)(pair >> 16));
        acc[m][0] += b0_low * low;
        acc[m][0] += b0_high * high;
        acc[m][1] += b1_low * low;
        acc[m][1] += b1_high * high;
      }
    }
    for (int m = 0; m < M; m++) {
      store(out + m * ld + n, acc[m][0]);
      store(out + m * ld + n + VW, acc[m][1]);
    }
  }
}

// Integer dot products of a weight's group along K, then out += scale_w * dot [+ min_w * sum], in
// units of the block's activation scale. A tier's own tile has the same signature.
#ifndef TILE_INT8
template <int M, bool W4>
static inline void int8_run(const uint8_t* b, const uint32_t* a, int32_t dot[][kPanel]) {
  for (int k = 0; k < kRun; k++) {
    int column_byte = W4 ? k / 8 * 128 + k % 4 : k / 4 * 128 + k % 4;
    int shift = W4 && k % 8 >= 4 ? 4 : 0;
    for (int m = 0; m < M; m++) {
      int x = (int8_t)(a[k / 4 * kMR + m] >> (8 * (k % 4)));
      for (int n = 0; n < kPanel; n++) {
        int w = b[column_byte + 4 * n];
        dot[m][n] += x * (W4 ? (w >> shift) & 15 : w);
      }
    }
  }
}

template <int M, bool W4, bool ASYM>
static void tile_int8(const Int8Operands& o, Ahead, float* out, int64_t ld) {
  const uint8_t* b = o.b;
  const uint32_t* a = o.a;
  const float* scales = o.scales;
  const int32_t* offsets = o.offsets;
  float acc[M][kPanel] = {};
  for (int64_t run = 0; run < o.runs; offsets += kMR) {
    if (run && run % kBlockRuns == 0) {
      scales += kMR;
      for (int m = 0; m < M; m++)
        for (int n = 0; n < kPanel; n++) acc[m][n] *= scales[m];
    }
    int32_t dot[M][kPanel];
    for (int m = 0; m < M; m++)
      for (int n = 0; n < kPanel; n++) dot[m][n] = ASYM ? 0 : offsets[m];
    const int64_t end = o.runs - run < o.group_runs ? o.runs : run + o.group_runs;
    for (; run < end; run++, a += kRun / 4 * kMR, b += W4 ? 512 : 1024) int8_run<M, W4>(b, a, dot);
    uint16_t half[2][kPanel];
    __builtin_memcpy(half, b, ASYM ? 128 : 64);
    b += ASYM ? 128 : 64;
    for (int n = 0; n < kPanel; n++) {
      float scale = from_f16(half[0][n]), minimum = ASYM ? from_f16(half[1][n]) : 0.0f;
      for (int m = 0; m < M; m++) {
        acc[m][n] += (float)dot[m][n] * scale;
        if (ASYM) acc[m][n] += minimum * as_float(offsets[m]);
      }
    }
  }
  for (int m = 0; m < M; m++)
    for (int n = 0; n < kPanel; n++) out[m * ld + n] = acc[m][n] * scales[kMR + m];
}
#endif

template <int M>
static void tile(const Linear& w, int64_t panel, const PackedRows& a, int64_t row_panel, Ahead ahead, float* out, int64_t ld) {
  const int64_t k = w.k_padded;
  const uint8_t* b = w.data + panel * w.panel_bytes;
  if (w.format == kF32) return tile_f32<M>(b, a.units + row_panel * k * kMR, k, out, ld);
  if (w.format == kBF16) return TILE_BF16<M>(b, a.units + row_panel * (k / 2) * kMR, k, ahead, out, ld);
  const int64_t runs = k / kRun, blocks = (runs + kBlockRuns - 1) / kBlockRuns, groups = (runs + w.group_runs - 1) / w.group_runs;
  const Int8Operands o = {b, a.units + row_panel * (k / 4) * kMR, a.scales + row_panel * (blocks + 1) * kMR,
                          a.offsets + row_panel * groups * kMR, runs, w.group_runs,
                          w.outlier_data + panel * w.outliers * kPanel * 2, a.outliers + row_panel * (w.outliers / 2) * kMR, w.outliers / 2};
  if (w.format == kW8 && w.asym)
    tile_int8<M, false, true>(o, ahead, out, ld);
  else if (w.format == kW8)
    tile_int8<M, false, false>(o, ahead, out, ld);
  else if (w.asym)
    tile_int8<M, true, true>(o, ahead, out, ld);
  else
    tile_int8<M, true, false>(o, ahead, out, ld);
#ifndef BESIDE_IN_TILE
  if (!w.outliers) return;
  alignas(64) float beside[M][kPanel];
  TILE_BF16<M>(o.beside_b, o.beside_a, w.outliers, Ahead{}, beside[0], kPanel);
  for (int m = 0; m < M; m++)
    for (int n = 0; n < kPanel; n += VW) store(out + m * ld + n, load(out + m * ld + n) + load(beside[m] + n));
#endif
}

static inline vf activate(vf x, int mode) {
  if (mode == kGluSilu) return x * reciprocal(1.0f + expv(-x));
  vf inner = 0.79788456f * (x + 0.044715f * x * x * x); // tanh form of GELU
  vf t = 1.0f - 2.0f * reciprocal(expv(2.0f * inner) + 1.0f);
  return 0.5f * x * (1.0f + t);
}

// The greatest of each row's columns so far; the first of equals. Panels come in order, so that few
// need a second look.
static void keep_best(const GemmArgs& g, int64_t panel, const float out[][kPanel], int64_t row, int rows) {
  const int64_t first = panel * kPanel, columns = g.columns - first < kPanel ? g.columns - first : kPanel;
  for (int m = 0; m < rows; m++) {
    Best& best = g.best[row + m];
    if (!any_above(out[m], best.value)) continue;
    for (int64_t n = 0; n < columns; n++) {
      const float x = out[m][n] < __FLT_MAX__ ? out[m][n] : __FLT_MAX__; // infinity, or NaN: below
      if (out[m][n] > best.value && x > best.value) best = {x, (int32_t)(first + n)};
    }
  }
}

static void epilogue(const GemmArgs& g, int64_t panel, const float out[][kPanel], int64_t row, int rows) {
  if (g.mode == kBest) return keep_best(g, panel, out, row, rows);
  const float* bias = g.w->bias ? g.w->bias + panel * kPanel : nullptr;
  for (int m = 0; m < rows; m++) {
    if (g.mode == kStore || g.mode == kAdd) {
      float* c = g.c + (row + m) * g.ldc + panel * kPanel;
      for (int n = 0; n < kPanel; n += VW) {
        vf v = load(out[m] + n);
        if (bias) v += load(bias + n);
        if (g.mode == kAdd) v += load(c + n);
        store(c + n, v);
      }
    } else {
      float* c = g.c + (row + m) * g.ldc + panel * (kPanel / 2);
      for (int n = 0; n < kPanel / 2; n += VW)
        store(c + n, activate(load(out[m] + n), g.mode) * load(out[m] + n + kPanel / 2));
    }
  }
}

// What a tile fetches beside its work. Where several row panels share a column panel, each fetches a
// part of the next one. A single one runs through memory, where the CPU's own prefetcher is better,
// unless there is about as much to compute as to read: then it stays some way ahead of itself.
static inline Ahead ahead_of(const GemmArgs& g, int64_t panel, int64_t row_panel, int64_t next_panel) {
  constexpr int64_t kBalance = 5;
  const int64_t bytes = g.w->panel_bytes, runs = g.w->k_padded / kRun, row_panels = (g.m + kMR - 1) / kMR;
  const uint8_t* data = g.w->data + panel * bytes;
  if (row_panels == 1) {
    // int8 products per byte of weight; those in bf16 take twice as long.
    const int64_t products = g.m * kPanel * g.w->k_padded * (g.w->format == kBF16 ? 2 : 1);
    if (!g.distance || g.w->format == kF32 || products < kBalance * bytes) return {};
    return {data + g.distance, data + g.distance + bytes, (bytes / 64 + runs - 1) / runs};
  }
  if (next_panel >= g.w->panels) return {};
  const int64_t each = (bytes / 64 + row_panels - 1) / row_panels * 64;
  const uint8_t *next = g.w->data + next_panel * bytes, *at = next + row_panel * each;
  return {at, at + each < next + bytes ? at + each : next + bytes, (each / 64 + runs - 1) / runs};
}

// What a tile's sums go to: while they are made, its lines come.
static inline void fetch_results(const GemmArgs& g, int64_t panel, int64_t row, int rows) {
  if (g.mode == kBest) return;
  const int64_t width = g.mode == kStore || g.mode == kAdd ? kPanel : kPanel / 2;
  for (int m = 0; m < rows; m++)
    for (int64_t n = 0; n < width; n += 16) fetch_to_write(g.c + (row + m) * g.ldc + panel * width + n);
}

static void gemm(const GemmArgs& g, int64_t panel_begin, int64_t panel_end) {
  alignas(64) float scratch[kMR][kPanel];
  const bool direct = g.mode == kStore && !g.w->bias;
  for (int64_t p = panel_begin; p < panel_end; p++) {
    for (int64_t row = 0; row < g.m; row += kMR) {
      int64_t rp = row / kMR;
      const Ahead ahead = ahead_of(g, p, rp, p + 1);
      int rows = (int)(g.m - row < kMR ? g.m - row : kMR);
      float* out = direct ? g.c + row * g.ldc + p * kPanel : scratch[0];
      const int64_t ld = direct ? g.ldc : kPanel;
      fetch_results(g, p, row, rows);
      switch (rows) {
        case 1: tile<1>(*g.w, p, g.a, rp, ahead, out, ld); break;
        case 2: tile<2>(*g.w, p, g.a, rp, ahead, out, ld); break;
        case 3: tile<3>(*g.w, p, g.a, rp, ahead, out, ld); break;
        case 4: tile<4>(*g.w, p, g.a, rp, ahead, out, ld); break;
        case 5: tile<5>(*g.w, p, g.a, rp, ahead, out, ld); break;
        default: tile<6>(*g.w, p, g.a, rp, ahead, out, ld); break;
      }
      if (!direct) epilogue(g, p, scratch, row, rows);
    }
  }
}
