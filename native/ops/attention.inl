// Paged attention with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), one body
// for prefill and decode: up to 8 query rows (the heads of a GQA group x tokens) against tiles of
// 32 keys. Partials begin at absolute multiples of 512 keys and merge in order; a masked key's
// weight is exactly 0 and a tile without visible keys leaves every bit as it was. So a row's result
// depends neither on its neighbours, nor on chunking, nor on how units were split.

constexpr float kLowest = -1e30f; // finite: 2^(kLowest - kLowest) must be 1, not NaN

struct QueryRows {
  alignas(64) float f32[kMaxHeadDim][kMaxRows];
  alignas(64) uint32_t pairs[kMaxHeadDim / 2][kMaxRows];
  int32_t position[kMaxRows];
};

static void load_queries(const AttnArgs& a, const AttnUnit& u, QueryRows* q) {
  const int group = a.num_heads / a.num_kv_heads, dim = a.head_dim;
  for (int m = 0; m < u.rows; m++) {
    int64_t token = a.query_start[u.request] + (u.row + m) / group;
    const float* x = a.qkv + token * a.ld + (int64_t)(u.kv_head * group + (u.row + m) % group) * dim;
    q->position[m] = a.positions[token];
    if (a.kv->f32)
      for (int d = 0; d < dim; d++) q->f32[d][m] = x[d];
    else
      for (int d = 0; d < dim / 2; d++) q->pairs[d][m] = pair_bf16(x[2 * d], x[2 * d + 1]);
  }
}

template <int M>
static void scores_f32(const QueryRows& q, const uint8_t* page, int dim, float s[][kTile]) {
  const float* k = (const float*)page;
  for (int n = 0; n < kTile; n += VW) {
    vf acc[M] = {};
    for (int d = 0; d < dim; d++) {
      vf key = load(k + d * kTile + n);
      for (int m = 0; m < M; m++) acc[m] += key * q.f32[d][m];
    }
    for (int m = 0; m < M; m++) store(s[m] + n, acc[m]);
  }
}

template <int M>
static void values_f32(const float p[][kTile], const uint8_t* page, int dim, float (*o)[kMaxHeadDim]) {
  const float* v = (const float*)page + (int64_t)dim * kTile;
  for (int n = 0; n < dim; n += VW) {
    vf acc[M];
    for (int m = 0; m < M; m++) acc[m] = load(o[m] + n);
    for (int t = 0; t < kTile; t++) {
      vf value = load(v + t * dim + n);
      for (int m = 0; m < M; m++) acc[m] += value * p[m][t];
    }
    for (int m = 0; m < M; m++) store(o[m] + n, acc[m]);
  }
}

#ifdef ATTENTION_BF16
template <int M>
static void scores_bf16(const QueryRows& q, const uint8_t* page, int dim, float s[][kTile]) {
  key_product<M>(q.pairs, page, dim, s);
}
#else
template <int M>
static void scores_bf16(const QueryRows& q, const uint8_t* page, int dim, float s[][kTile]) {
  const uint32_t* k = (const uint32_t*)page;
  for (int n = 0; n < kTile; n += VW) {
    vf acc[M] = {};
    for (int d = 0; d < dim / 2; d++) {
      vi key = load_i(k + d * kTile + n);
      vf low = as_f(key << 16), high = as_f(key & (int)0xffff0000);
      for (int m = 0; m < M; m++) {
        acc[m] += low * from_bf16((uint16_t)q.pairs[d][m]);
        acc[m] += high * from_bf16((uint16_t)(q.pairs[d][m] >> 16));
      }
    }
    for (int m = 0; m < M; m++) store(s[m] + n, acc[m]);
  }
}

template <int M>
static void values_bf16(const float p[][kTile], const uint8_t* page, int dim, float (*o)[kMaxHeadDim]) {
  const uint32_t* v = (const uint32_t*)(page + (int64_t)dim * kTile * 2);
  for (int n = 0; n < dim; n += VW) {
    const uint32_t* slab = v + n / 32 * 512 + n % 32;
    vf acc[M];
    for (int m = 0; m < M; m++) acc[m] = load(o[m] + n);
    for (int t = 0; t < kTile; t += 2) {
      vi value = load_i(slab + t * 16);
      vf low = as_f(value << 16), high = as_f(value & (int)0xffff0000);
      for (int m = 0; m < M; m++) {
        acc[m] += low * p[m][t];
        acc[m] += high * p[m][t + 1];
      }
    }
    for (int m = 0; m < M; m++) store(o[m] + n, acc[m]);
  }
}
#endif

// Scores -> weights in place; rescales the state's row when its maximum moved.
static inline void softmax_row(float* s, int key, int position, int window, float scale, AttnState* st, int m, int dim) {
  int hidden_from = position - key + 1; // first key of the tile behind the query's position
  int hidden_below = window ? position - window + 1 - key : 0;
  if (hidden_from < kTile)
    for (int t = hidden_from > 0 ? hidden_from : 0; t < kTile; t++) s[t] = -__builtin_inff();
  for (int t = 0; t < (hidden_below < kTile ? hidden_below : kTile); t++) s[t] = -__builtin_inff();
  vf x[kTile / VW], peak = splat(kLowest);
  for (int i = 0; i < kTile / VW; i++) {
    x[i] = load(s + i * VW) * scale;
    peak = vmax(peak, x[i]);
  }
  float top = max_lane(peak);
  if (top > st->m[m]) {
    float keep = exp2v(splat(st->m[m] - top))[0];
    for (int d = 0; d < dim; d += VW) store(st->o[m] + d, load(st->o[m] + d) * keep);
    st->l[m] *= keep;
    st->m[m] = top;
  }
  vf total = splat(0.0f);
  for (int i = 0; i < kTile / VW; i++) {
    vf e = exp2v(x[i] - st->m[m]);
    total += e;
    store(s + i * VW, e);
  }
  st->l[m] += sum(total);
}

template <int M>
static void attend_tile(const AttnArgs& a, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
  alignas(64) float s[kMaxRows][kTile];
  if (a.kv->f32)
    scores_f32<M>(q, page, a.head_dim, s);
  else
    scores_bf16<M>(q, page, a.head_dim, s);
  const float scale = a.scale * 1.44269504f;
  for (int m = 0; m < M; m++) softmax_row(s[m], key, q.position[m], a.window, scale, st, m, a.head_dim);
  if (a.kv->f32)
    values_f32<M>(s, page, a.head_dim, st->o);
  else
    values_bf16<M>(s, page, a.head_dim, st->o);
}

static void clear(AttnState* st, int rows, int dim) {
  for (int m = 0; m < rows; m++) {
    st->m[m] = kLowest;
    st->l[m] = 0.0f;
    __builtin_memset(st->o[m], 0, (size_t)dim * 4);
  }
}

static void attention_merge(const AttnArgs& a, const AttnUnit& u, AttnState* total, const AttnState* part) {
  for (int m = 0; m < u.rows; m++) {
    float top = part->m[m] > total->m[m] ? part->m[m] : total->m[m];
    float keep = exp2v(splat(total->m[m] - top))[0], add = exp2v(splat(part->m[m] - top))[0];
    for (int d = 0; d < a.head_dim; d += VW)
      store(total->o[m] + d, load(total->o[m] + d) * keep + load(part->o[m] + d) * add);
    total->l[m] = total->l[m] * keep + part->l[m] * add;
    total->m[m] = top;
  }
}

static void attend(const AttnArgs& a, const AttnUnit& u, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
  switch (u.rows) {
    case 1: return attend_tile<1>(a, q, page, key, st);
    case 2: return attend_tile<2>(a, q, page, key, st);
    case 3: return attend_tile<3>(a, q, page, key, st);
    case 4: return attend_tile<4>(a, q, page, key, st);
    case 5: return attend_tile<5>(a, q, page, key, st);
    case 6: return attend_tile<6>(a, q, page, key, st);
    case 7: return attend_tile<7>(a, q, page, key, st);
    default: return attend_tile<8>(a, q, page, key, st);
  }
}

// `store`: null, or where each partial of [part, part_end) goes by itself (a split unit).
static void attention(const AttnArgs& a, const AttnUnit& u, AttnState* total, AttnState* partial, AttnState* store_to) {
  QueryRows q;
  load_queries(a, u, &q);
  const int last = q.position[u.rows - 1] / kTile;
  int first = 0;
  if (a.window && q.position[0] >= a.window) first = (q.position[0] - a.window + 1) / kTile;
  const int32_t* blocks = a.kv->block_table + a.slots[u.request] * a.kv->table_width;
  const uint8_t* base = a.kv->arena + a.cache_layer * a.kv->layer_bytes + u.kv_head * a.kv->page_bytes;
  if (!store_to) clear(total, u.rows, a.head_dim);
  for (int part = u.part; part < u.part_end; part++) {
    AttnState* st = store_to ? store_to + (part - u.part) : partial;
    clear(st, u.rows, a.head_dim);
    int begin = part * kPartialTiles, end = begin + kPartialTiles - 1;
    for (int t = begin > first ? begin : first; t <= (end < last ? end : last); t++)
      attend(a, u, q, base + blocks[t] * a.kv->block_bytes, t * kTile, st);
    if (!store_to) attention_merge(a, u, total, st);
  }
}

static void attention_finish(const AttnArgs& a, const AttnUnit& u, const AttnState* total) {
  const int group = a.num_heads / a.num_kv_heads;
  for (int m = 0; m < u.rows; m++) {
    int64_t token = a.query_start[u.request] + (u.row + m) / group;
    float* out = a.out + token * a.ld_out + (int64_t)(u.kv_head * group + (u.row + m) % group) * a.head_dim;
    float inverse = 1.0f / total->l[m];
    for (int d = 0; d < a.head_dim; d += VW) store(out + d, load(total->o[m] + d) * inverse);
  }
}
