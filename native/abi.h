// Plain records shared by the executor and every ISA tier's kernels. No behaviour here.
//
// Legend: T tokens, R requests, H query heads, KH KV heads, D head size, K and N of a linear layer.
// Row panel: MR rows of activations; column panel: 32 columns of a weight.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace sixfold {

constexpr int kMR = 6;            // activation rows per register tile
constexpr int kPanel = 32;        // weight columns per panel
constexpr int kRun = 32;          // K values that codes come in; a weight's scale has 1, 2 or 4 runs
constexpr int kBlockRuns = 4;     // runs per quantisation scale of an activation (128 values)
constexpr int kTile = 32;         // keys per softmax tile = tokens per KV block
constexpr int kPartialTiles = 16; // tiles per attention partial (512 keys, at absolute multiples)
constexpr int kMaxRows = 8;       // query rows per attention tile
constexpr int kUnitTiles = 4;     // tiles of rows that share what a unit reads of the KV cache
constexpr int kMaxHeadDim = 256;
constexpr int64_t kMaxK = 65536; // longest activation row (a stack buffer in the packing op)

enum Format : int32_t { kF32 = 0, kBF16 = 1, kW8 = 2, kW4 = 3 };
enum OutMode : int32_t { kStore = 0, kAdd = 1, kGluSilu = 2, kGluGelu = 3, kBest = 4 };

// A packed weight [N, K]. `data` is one forward-only byte stream per panel (see kernels/packing.py).
struct Linear {
  int32_t format;
  int32_t asym; // W4, W8: codes count from a minimum, which each group carries behind its scales
  int32_t group_runs; // W4, W8: runs per scale (1, 2, 4); the last group may have fewer
  int64_t n, k;
  int64_t k_padded;    // K rounded up to kRun
  int64_t panels;      // ceil(N / 32)
  int64_t panel_bytes;
  const uint8_t* data;
  const float* bias; // [panels * 32], or null
  // W4, W8: columns whose activations are too large for their block's 8 bits are multiplied in
  // bf16 beside the codes (a multiple of 2; 0: none).
  int64_t outliers;
  const int32_t* outlier_columns; // [outliers], ascending
  const uint8_t* outlier_data;    // bf16 [panels][outliers / 2][32][2]
};

// Activations packed for the row panels of a GEMM: [row panel][K unit][MR] 32-bit units
// (one float, two bf16, or four int8 codes). For int8 also, per block of 128, by how much the sum
// so far is multiplied to be in units of this block's scale (behind the last block: that scale),
// and per group of the weight what the codes' zero point or minimum adds: an int32 that a dot
// product starts from, or a float that the weight's minimum is multiplied by.
struct PackedRows {
  uint32_t* units;
  float* scales;      // [row panel][blocks + 1][MR]
  int32_t* offsets;   // [row panel][groups][MR], floats if the weight is asymmetric
  uint32_t* outliers; // [row panel][outliers / 2][MR] pairs of bf16
};

struct PackArgs {
  const float* x;      // [rows, ld]
  int64_t ld;
  const int32_t* rows; // which rows, or null for all in order
  int64_t num_rows;
  const Linear* w; // whose K, format and outliers the rows are packed for
  const float* norm; // RMS norm weight [k], or null
  float eps;
  float* sizes; // [k] to which |x| of all rows is added, or null
  PackedRows out;
};

// The greatest of a row's columns, the first of equals; NaN counts as less than everything, infinity
// as FLT_MAX.
struct Best {
  float value;
  int32_t column;
};

struct GemmArgs {
  const Linear* w;
  PackedRows a;
  int64_t m;
  float* c;
  int64_t ldc;
  int32_t mode;
  int64_t distance; // bytes by which a single row panel's weights are fetched ahead; 0: not at all
  Best* best;       // kBest: [m], in place of c
  int64_t columns;  // of which; what a panel has beyond is padding
};

enum KVFormat : int32_t { kKvBf16 = 0, kKvF32 = 1, kKvInt8 = 2 };

// One KV group's arena: [block][layer][kv head][K slab, V slab]. How a page is laid out: rows.inl.
struct KVGroup {
  uint8_t* arena;
  int64_t block_bytes, layer_bytes, page_bytes; // page: one head's K and V of one block
  int64_t num_blocks;
  const int32_t* block_table; // [slots, table_width]
  int64_t table_width;
  int32_t format;
};

struct RopeKVArgs {
  float* qkv; // [T, ld], rotated in place
  int64_t ld;
  int32_t num_heads, num_kv_heads, head_dim;
  const float* q_norm; // [D] or null
  const float* k_norm;
  float eps;
  const float* cos_sin; // [positions][D/2 cos, D/2 sin]
  const int32_t* positions;
  const int32_t* row_slot; // [T] row of the block table
  const uint8_t* clears_tail; // [T] last row of a request whose block began in this step
  const KVGroup* kv;
  int32_t cache_layer;
  // Caches of 8 bits, or null: [3][KH][D], by what queries of a KV head are multiplied, by what its
  // keys are, and what is then taken off these (runner/key_frames.py).
  const float* frames;
};

// Query rows [row, row + rows) of one request and KV head (row = token * group + head in group)
// against the partials [part, part_end). `split` >= 0: one piece of a unit whose partials, from
// `first_part` on, are kept in states `split`... and merged by the last to arrive. Rows are taken in
// tiles of kMaxRows, which have a state each: [partial][tile]. With `heads` > 1 the rows are one tile
// at most, and there is one for each of the KV heads from `kv_head` on, whose pages lie behind one
// another. `member` >= 0: the rows are those of several requests that share these keys, a token
// each (AttnArgs::members from there on).
struct AttnUnit {
  int32_t request, kv_head, heads, row, rows, part, part_end;
  int32_t split, merge, first_part, member;
};

// One of those requests: where the states of its partials begin, how many there are for a partial and
// which of them is this head's, and its merge.
struct SharedMember {
  int32_t request, split, tiles, tile, merge;
};

static inline int tiles_of(const AttnUnit& u) { return u.heads > 1 ? u.heads : (u.rows + kMaxRows - 1) / kMaxRows; }

static inline AttnUnit tile_of(AttnUnit u, int tile) {
  if (u.heads > 1) {
    u.kv_head += tile;
    u.heads = 1;
    return u;
  }
  u.row += tile * kMaxRows;
  u.rows -= tile * kMaxRows;
  if (u.rows > kMaxRows) u.rows = kMaxRows;
  return u;
}

struct AttnArgs {
  const float* qkv;
  int64_t ld;
  float* out;
  int64_t ld_out;
  int32_t num_heads, num_kv_heads, head_dim;
  float scale;
  int32_t window; // 0: none
  int32_t cache_layer;
  const KVGroup* kv;
  const int32_t* query_start; // [R + 1]
  const int32_t* positions;   // [T]
  const int32_t* slots;       // [R]
  const SharedMember* members;
};

// State of kMaxRows online softmaxes: O is not normalised. 2^m scale, m in log2 units.
struct AttnState {
  float o[kMaxRows][kMaxHeadDim];
  float m[kMaxRows];
  float l[kMaxRows];
};

struct NormAddArgs {
  float* x;
  int64_t ldx;
  const float* y;
  int64_t ldy;
  const float* norm; // null: plain add
  float eps;
  int64_t width;
  bool add; // false: x = norm(y)
};

// One tier's kernels: the same contract, other instructions.
struct Kernels {
  const char* name;
  void (*pack)(const PackArgs&, int64_t panel_begin, int64_t panel_end);
  void (*gemm)(const GemmArgs&, int64_t panel_begin, int64_t panel_end);
  void (*rope_kv)(const RopeKVArgs&, int64_t row_begin, int64_t row_end);
  // Runs one partial after the other and merges each into `total`, in order. States are arrays of
  // one per tile of rows; `store` has them for every partial. `next`: the unit that this thread may
  // take then, or null: its first pages are fetched.
  void (*attention)(const AttnArgs&, const AttnUnit&, const AttnUnit* next, AttnState* total,
                    AttnState* partial, AttnState* store);
  void (*attention_merge)(const AttnArgs&, const AttnUnit&, AttnState* total,
                          const AttnState* partial);
  void (*attention_finish)(const AttnArgs&, const AttnUnit&, const AttnState* total);
  void (*attention_naive)(const AttnArgs&, const AttnUnit&, int stage, float* scores, int64_t ld);
  void (*norm_add)(const NormAddArgs&, int64_t row_begin, int64_t row_end);
  // Peak arithmetic: 0 f32, 1 bf16, 2 int8. Returns the operations of one iteration, 0 if absent.
  double (*peak)(int kind, int64_t iterations);
};

extern const Kernels kernels_generic;
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512_vnni;
extern const Kernels kernels_avx512_bf16;

} // namespace sixfold
