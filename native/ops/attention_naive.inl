// Attention as it is written down, the baseline: all scores to memory, those that are masked then
// included, softmax of whole rows there, then the values. Products are the tier's own, so that what
// is compared is the algorithm. Not for 8-bit caches. Sums run over whole rows, in another order than
// the tiled kernels'.

static inline float* naive_row(const AttnArgs& a, const AttnUnit& u, int m, float* scores, int64_t ld) {
  const int group = a.num_heads / a.num_kv_heads;
  const int64_t token = a.query_start[u.request] + (u.row + m) / group, head = (int64_t)u.kv_head * group + (u.row + m) % group;
  return scores + (token * a.num_heads + head) * ld;
}

template <int M>
static void naive_scores(const AttnArgs& a, const AttnUnit& u, const QueryRows& q, const uint8_t* page, int key, float* scores, int64_t ld) {
#ifdef ATTENTION_BF16
  TileScores ts;
  if (a.kv->format == kKvBf16)
    key_product_bf16<M>(q, page, 0, a.head_dim, ts, 0);
  else
    scores_f32<M>(q, page, a.head_dim, (float(*)[kTile])ts.s);
  const int step = a.kv->format == kKvBf16 ? kStepKeys : kTile;
  for (int m = 0; m < M; m++) __builtin_memcpy(naive_row(a, u, m, scores, ld) + key, (const float*)ts.s + m * step, kTile * 4);
#else
  alignas(64) float s[kMaxRows][kTile];
  if (a.kv->format == kKvBf16)
    scores_bf16<M>(q, page, a.head_dim, s);
  else
    scores_f32<M>(q, page, a.head_dim, s);
  for (int m = 0; m < M; m++) __builtin_memcpy(naive_row(a, u, m, scores, ld) + key, s[m], kTile * 4);
#endif
}

// Keys [low, high] are seen; the others of the row's `end` become 0.
static void naive_softmax(float* s, int low, int high, int end, float scale) {
  for (int t = 0; t < low; t++) s[t] = -__builtin_inff();
  for (int t = high + 1; t < end; t++) s[t] = -__builtin_inff();
  vf peak = splat(kLowest), total = splat(0.0f);
  for (int t = 0; t < end; t += VW) peak = vmax(peak, load(s + t) * scale);
  const float top = max_lane(peak);
  for (int t = 0; t < end; t += VW) {
    vf e = exp2v(load(s + t) * scale - top);
    total += e;
    store(s + t, e);
  }
  const float inverse = 1.0f / sum(total);
  for (int t = 0; t < end; t += VW) store(s + t, load(s + t) * inverse);
}

template <int M>
static void naive_values(const AttnArgs& a, const AttnUnit& u, const uint8_t* page, int key, float* scores, int64_t ld, AttnState* st) {
  alignas(64) float p[kMaxRows][kTile];
  for (int m = 0; m < M; m++) __builtin_memcpy(p[m], naive_row(a, u, m, scores, ld) + key, kTile * 4);
  if (a.kv->format != kKvBf16) return values_f32<M>(p, page, a.head_dim, st->o);
#ifdef ATTENTION_BF16
  TileScores ts;
  StepPages pages;
  pages.count = 1, pages.page[0] = page, pages.next[0] = 0, pages.key[0] = key;
  for (int m = 0; m < M; m++) pairs_bf16(p[m], ts.weights[m]);
  value_product_bf16<M>(ts, pages, a.head_dim, st->o);
#else
  values_bf16<M>(p, page, a.head_dim, st->o);
#endif
}

template <int M> static void naive_rows(const AttnArgs& a, const AttnUnit& u, int stage, float* scores, int64_t ld) {
  QueryRows q;
  load_queries(a, u, &q);
  // All keys of the request, also those behind a row's own position.
  const int last = a.positions[a.query_start[u.request + 1] - 1] / kTile, end = (last + 1) * kTile;
  const int32_t* blocks = blocks_of(a, u);
  const uint8_t* base = pages_of(a, u);
  if (stage == 1) {
    for (int m = 0; m < M; m++) {
      const int low = a.window && q.position[m] >= a.window ? q.position[m] - a.window + 1 : 0;
      naive_softmax(naive_row(a, u, m, scores, ld), low, q.position[m], end, a.scale * 1.44269504f);
    }
    return;
  }
  AttnState st;
  clear(&st, M, a.head_dim);
  // Blocks behind a window may be gone: nobody looks there.
  const int first = a.window && q.position[0] >= a.window ? (q.position[0] - a.window + 1) / kTile : 0;
  for (int t = first; t <= last; t++) {
    const uint8_t* page = base + blocks[t] * a.kv->block_bytes;
    if (stage == 0)
      naive_scores<M>(a, u, q, page, t * kTile, scores, ld);
    else
      naive_values<M>(a, u, page, t * kTile, scores, ld, &st);
  }
  if (stage == 0) return;
  for (int m = 0; m < M; m++) st.l[m] = 1.0f;
  finish_tile(a, u, &st);
}

// A tile of rows: `stage` 0 writes scores [token][head][ld], 1 makes weights of them, 2 sums values.
static void attention_naive(const AttnArgs& a, const AttnUnit& u, int stage, float* scores, int64_t ld) {
  switch (u.rows) {
    case 1: return naive_rows<1>(a, u, stage, scores, ld);
    case 2: return naive_rows<2>(a, u, stage, scores, ld);
    case 3: return naive_rows<3>(a, u, stage, scores, ld);
    case 4: return naive_rows<4>(a, u, stage, scores, ld);
    case 5: return naive_rows<5>(a, u, stage, scores, ld);
    case 6: return naive_rows<6>(a, u, stage, scores, ld);
    case 7: return naive_rows<7>(a, u, stage, scores, ld);
    default: return naive_rows<8>(a, u, stage, scores, ld);
  }
}
