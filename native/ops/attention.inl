// Paged attention with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), one body
// for prefill and decode: up to 8 query rows (the heads of a GQA group x tokens) against tiles of
// 32 keys. Partials begin at absolute multiples of 512 keys and merge in order; a masked key's
// weight is exactly 0 and a tile without visible keys leaves every bit as it was. So a row's result
// depends neither on its neighbours, nor on chunking, nor on how units were split.

constexpr float kLowest = -1e30f; // finite: 2^(kLowest - kLowest) must be 1, not NaN

struct QueryRows {
  alignas(64) float f32[kMaxHeadDim][kMaxRows];
  alignas(64) uint32_t pairs[kMaxHeadDim / 2][kMaxRows];
  alignas(32) float unit[kMaxRows]; // of 8-bit codes, fours of which are in `pairs`
  int32_t offset[kMaxRows];         // what their products with keys start from
  int32_t position[kMaxRows];
  int32_t least, most; // of the positions
};

// Pages that a tile of rows takes in one step of its softmax, from a multiple of as many on. What a
// row gets from a page that it does not see is nothing, bit for bit, whether the page is there or not.
#ifdef TIER_VNNI
constexpr int kStepPages = 4;
#else
constexpr int kStepPages = 1;
#endif
constexpr int kStepKeys = kStepPages * kTile;

struct StepPages {
  int count;
  const uint8_t* page[kStepPages];
  int64_t next[kStepPages]; // how far behind it the one lies that comes a step later, or 0
  int key[kStepPages];      // its first key
};

#ifdef TIER_VNNI
#include "attention_avx512.inl"
#endif

static void load_queries(const AttnArgs& a, const AttnUnit& u, QueryRows* q) {
  const int group = a.num_heads / a.num_kv_heads, dim = a.head_dim;
  const SharedMember* members = u.member < 0 ? nullptr : a.members + u.member;
  q->least = 0x7fffffff, q->most = 0;
  for (int m = 0; m < u.rows; m++) {
    const int at = (u.row + m) / group; // token of the request, or request of a token
    int64_t token = members ? a.query_start[members[at].request] : a.query_start[u.request] + at;
    const float* x = a.qkv + token * a.ld + (int64_t)(u.kv_head * group + (u.row + m) % group) * dim;
    q->position[m] = a.positions[token];
    if (q->least > q->position[m]) q->least = q->position[m];
    if (q->most < q->position[m]) q->most = q->position[m];
    if (a.kv->format != kKvBf16) {
#ifdef ATTENTION_INT8
      if (a.kv->format == kKvInt8) {
        quantise_query(x, dim, m, q);
        continue;
      }
#endif
      for (int d = 0; d < dim; d++) q->f32[d][m] = x[d];
    } else {
      for (int d = 0; d < dim / 2; d += VW) { // D is a multiple of 32
        uint32_t pairs[VW];
        pairs_bf16(x + 2 * d, pairs);
        for (int i = 0; i < VW; i++) q->pairs[d + i][m] = pairs[i];
      }
    }
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

#ifndef ATTENTION_BF16
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
static void attend_f32(const AttnArgs& a, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
  alignas(64) float s[kMaxRows][kTile];
  scores_f32<M>(q, page, a.head_dim, s);
  for (int m = 0; m < M; m++)
    softmax_row(s[m], key, q.position[m], a.window, a.scale * 1.44269504f, st, m, a.head_dim);
  values_f32<M>(s, page, a.head_dim, st->o);
}

#ifndef ATTENTION_BF16
template <int M>
static void attend_bf16(const AttnArgs& a, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
  alignas(64) float s[kMaxRows][kTile];
  scores_bf16<M>(q, page, a.head_dim, s);
  for (int m = 0; m < M; m++)
    softmax_row(s[m], key, q.position[m], a.window, a.scale * 1.44269504f, st, m, a.head_dim);
  values_bf16<M>(s, page, a.head_dim, st->o);
}
#endif

static void clear(AttnState* st, int rows, int dim) {
  for (int m = 0; m < rows; m++) {
    st->m[m] = kLowest;
    st->l[m] = 0.0f;
    __builtin_memset(st->o[m], 0, (size_t)dim * 4);
  }
}

static void merge_tile(const AttnArgs& a, int rows, AttnState* total, const AttnState* part) {
  for (int m = 0; m < rows; m++) {
    float top = part->m[m] > total->m[m] ? part->m[m] : total->m[m];
    float keep = exp2v(splat(total->m[m] - top))[0], add = exp2v(splat(part->m[m] - top))[0];
    for (int d = 0; d < a.head_dim; d += VW)
      store(total->o[m] + d, load(total->o[m] + d) * keep + load(part->o[m] + d) * add);
    total->l[m] = total->l[m] * keep + part->l[m] * add;
    total->m[m] = top;
  }
}

static void attention_merge(const AttnArgs& a, const AttnUnit& u, AttnState* total, const AttnState* part) {
  for (int i = 0; i < tiles_of(u); i++) merge_tile(a, tile_of(u, i).rows, total + i, part + i);
}

#ifndef TIER_VNNI
// An 8-bit page as a float32 one.
static const uint8_t* plain_page(const uint8_t* page, int dim, float* plain) {
  const float *key_scales = (const float*)(page + 64 * (int64_t)dim), *value_scales = key_scales + kTile;
  const int8_t* values = (const int8_t*)page + (int64_t)dim * kTile;
  for (int d = 0; d < dim; d++)
    for (int t = 0; t < kTile; t++) {
      plain[d * kTile + t] = (float)(page[d / 4 * 128 + 4 * t + d % 4] - 128) * key_scales[t];
      plain[(int64_t)dim * kTile + t * dim + d] = (float)values[d / 32 * 1024 + t / 4 * 128 + d % 32 * 4 + t % 4] * value_scales[t];
    }
  return (const uint8_t*)plain;
}
#endif

template <int M>
static void attend_tile(const AttnArgs& a, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
  if (a.kv->format != kKvBf16) return attend_f32<M>(a, q, page, key, st);
#ifndef ATTENTION_BF16
  attend_bf16<M>(a, q, page, key, st);
#endif
}

static void attend_page(const AttnArgs& a, int rows, const QueryRows& q, const uint8_t* page, int key, AttnState* st) {
#ifndef ATTENTION_INT8
  alignas(64) float plain[2 * kTile * kMaxHeadDim];
  if (a.kv->format == kKvInt8) page = plain_page(page, a.head_dim, plain);
#endif
  switch (rows) {
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

static void attend(const AttnArgs& a, int rows, const QueryRows& q, const StepPages& pages, AttnState* st) {
#ifdef ATTENTION_INT8
  if (a.kv->format == kKvInt8) return attend_step<kKvInt8>(a, rows, q, pages, st);
#endif
#ifdef ATTENTION_BF16
  if (a.kv->format == kKvBf16) return attend_step<kKvBf16>(a, rows, q, pages, st);
#endif
  for (int j = 0; j < pages.count; j++) attend_page(a, rows, q, pages.page[j], pages.key[j], st);
}

static inline const uint8_t* pages_of(const AttnArgs& a, const AttnUnit& u) {
  return a.kv->arena + a.cache_layer * a.kv->layer_bytes + u.kv_head * a.kv->page_bytes;
}
static inline const int32_t* blocks_of(const AttnArgs& a, const AttnUnit& u) {
  return a.kv->block_table + a.slots[u.request] * a.kv->table_width;
}

// The unit's page that is read `step` pages after its first one; null if it has fewer.
static inline const uint8_t* early_page(const AttnArgs& a, const AttnUnit& u, int step) {
  const int page = u.part * kPartialTiles + step;
  const int64_t group = a.num_heads / a.num_kv_heads, token = a.query_start[u.request] + (u.row + u.rows - 1) / group;
  if (a.window || u.member >= 0 || page > a.positions[token] / kTile) return nullptr;
  return pages_of(a, u) + blocks_of(a, u)[page] * a.kv->block_bytes;
}

// `store`: null, or where each partial of [part, part_end) goes by itself (a split unit).
static void attention(const AttnArgs& a, const AttnUnit& u, const AttnUnit* next_unit, AttnState* total, AttnState* partial,
                      AttnState* store_to) {
  QueryRows q[kUnitTiles];
  AttnUnit rows[kUnitTiles];
  int first[kUnitTiles], last[kUnitTiles];
  const int tiles = tiles_of(u);
  for (int i = 0; i < tiles; i++) {
    rows[i] = tile_of(u, i);
    load_queries(a, rows[i], &q[i]);
    first[i] = a.window && q[i].position[0] >= a.window ? (q[i].position[0] - a.window + 1) / kTile : 0;
    last[i] = q[i].position[rows[i].rows - 1] / kTile;
    if (!store_to) clear(&total[i], rows[i].rows, a.head_dim);
  }
  const int32_t* blocks = blocks_of(a, u);
  const uint8_t* base = pages_of(a, u);
  const int64_t head_step = u.heads > 1 ? a.kv->page_bytes : 0; // from one tile's page to the next one's
  const int last_part = u.part_end * kPartialTiles - 1, last_page = last[tiles - 1] < last_part ? last[tiles - 1] : last_part;
  const uint8_t* early[kStepPages] = {};
  for (int j = 0; j < kStepPages && next_unit; j++) early[j] = early_page(a, *next_unit, j);
  // Merging the first partial into nothing would give its very bits.
  const bool single = !store_to && u.part_end - u.part == 1;
  for (int part = u.part; part < u.part_end; part++) {
    AttnState* st = store_to ? store_to + (part - u.part) * tiles : single ? total : partial;
    for (int i = 0; i < tiles && !single; i++) clear(&st[i], rows[i].rows, a.head_dim);
    const int begin = part * kPartialTiles, end = begin + kPartialTiles - 1;
    const int until = end < last_page ? end : last_page;
    for (int t = (begin > first[0] ? begin : first[0]) / kStepPages * kStepPages; t <= until; t += kStepPages) {
      for (int i = 0, fetched = 0; i < tiles; i++) {
        StepPages pages;
        pages.count = 0;
        for (int p = t; p < t + kStepPages; p++) {
          if (p < first[i] || p > last[i]) continue;
          const uint8_t* page = base + blocks[p] * a.kv->block_bytes;
          const uint8_t* later = p + kStepPages <= last_page ? base + blocks[p + kStepPages] * a.kv->block_bytes : early[p - t];
          const int64_t next = later ? later - page : 0;
          pages.page[pages.count] = page + i * head_step;
          // Rows of one head read the same pages: the first of them fetches the next ones.
          pages.next[pages.count] = head_step || !fetched ? next : 0;
          pages.key[pages.count++] = p * kTile;
        }
        if (!pages.count) continue;
        fetched = 1;
        attend(a, rows[i].rows, q[i], pages, &st[i]);
      }
    }
    if (!store_to && !single) attention_merge(a, u, total, st);
  }
}

static void finish_tile(const AttnArgs& a, const AttnUnit& u, const AttnState* total) {
  const int group = a.num_heads / a.num_kv_heads;
  for (int m = 0; m < u.rows; m++) {
    int64_t token = a.query_start[u.request] + (u.row + m) / group;
    float* out = a.out + token * a.ld_out + (int64_t)(u.kv_head * group + (u.row + m) % group) * a.head_dim;
    float inverse = 1.0f / total->l[m];
    for (int d = 0; d < a.head_dim; d += VW) store(out + d, load(total->o[m] + d) * inverse);
  }
}

static void attention_finish(const AttnArgs& a, const AttnUnit& u, const AttnState* total) {
  for (int i = 0; i < tiles_of(u); i++) finish_tile(a, tile_of(u, i), total + i);
}
