// Runs an op program: one call per forward segment, one call for logits and sampling.
//
// All memory it works on but its own activations belongs to Python (weights, KV arenas, tables).
// Not here: fusing and buffer assignment (kernels/lower.py), any decision about requests.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "abi.h"
#include "plan.h"
#include "pool.h"
#include "sampler.h"

namespace sixfold {

enum OpKind : int32_t { kOpEmbed = 0, kOpPack = 1, kOpGemm = 2, kOpRopeKV = 3, kOpAttention = 4, kOpNormAdd = 5 };

// One lowered op: lower.py fills the same fields in the same order.
struct Op {
  int64_t kind, in, out, weight, norm, norm2, mode;
  int64_t heads, kv_heads, head_dim, kv_group, cache_layer, window, rope;
  double scale, eps;
};

struct Head { // final norm and output projection
  int64_t in, weight, norm;
  double eps;
};

constexpr int64_t kHeadRows = 64; // rows of logits per pass: bounds [rows, V] floats

inline int64_t round_up(int64_t x, int64_t m) { return (x + m - 1) / m * m; }
inline int64_t row_panels(int64_t rows) { return (rows + kMR - 1) / kMR; }

// What is best found by trying: kernels/autotune.py. None of it changes a result.
struct Tuning {
  int64_t chunks = 8;      // per thread and phase: small enough that a late thread costs little
  int64_t distance = 8192; // bytes by which a single row panel's weights are fetched ahead; 0: not at all
};

class Executor {
public:
  Executor(const Kernels* kernels, int threads, int64_t max_tokens, int64_t max_logit_rows);
  ~Executor();

  void set_ops(const Op* ops, int64_t count);
  void add_weight(const Linear& w) { weights_.push_back(w); }
  void add_vector(const float* v) { vectors_.push_back(v); } // norm weights, rope tables
  void add_buffer(int64_t width);
  void set_head(const Head& head) { head_ = head; }
  void set_kv(int64_t group, const KVGroup& kv);
  void set_key_frames(int64_t op, const float* frames) { key_frames_.at((size_t)op) = frames; } // RopeKVArgs::frames
  void prepare(); // after all of the above: allocates activations

  // Runs ops [begin, end) on the step's tokens. Positions, ids and block tables must be valid.
  void forward(const Step& step, int64_t begin, int64_t end);
  // Logits of `rows` of the last forward into `out` [count, vocab].
  void logits(const int32_t* rows, int64_t count, float* out, int64_t vocab);
  // Samples row by row. `targets[i]` >= 0: no draw, logprobs of that token (prompt_logprobs).
  void sample(const int32_t* rows, const int32_t* targets, const SixfoldSampleParams* params,
              int64_t count, int64_t vocab, SixfoldSampleResult* results);

  void set_tuning(const Tuning& tuning) { tuning_ = tuning; }
  void set_naive_attention(bool naive) { naive_ = naive; }

  // From now on, adds up |x| of every input column of every linear layer. One thread only.
  void observe_inputs();
  const std::vector<float>& input_sizes(int64_t weight) const { return input_sizes_.at((size_t)weight); }

  // Of the last forward: in how many rows of shared attention units requests took part.
  int64_t stacked() const;

  float* buffer(int64_t i) { return buffers_[(size_t)i].data; }
  int64_t stride(int64_t i) const { return buffers_[(size_t)i].ld; }
  int64_t width(int64_t i) const { return buffers_[(size_t)i].width; }
  Pool& pool() { return pool_; }

private:
  struct Buffer {
    int64_t width, ld;
    float* data;
  };
  struct alignas(64) Cursor {
    std::atomic<int64_t> next{0};
  };
  struct Chunked { // any phase's arguments: what to run, on how many items per chunk
    Executor* self;
    const Op* op;
    int64_t items, per_chunk;
    // A GEMM's chunks belong to threads, a run of neighbours each, so that a thread reads forward
    // through memory; who is done with its own takes from the others'.
    std::unique_ptr<Cursor[]> cursors;
    bool packs_itself; // each thread packs the rows for itself first: with few rows less than a barrier
    uint64_t serial;   // of the phase among all that ever were
    PackArgs pack;
    GemmArgs gemm;
    RopeKVArgs rope;
    AttnArgs attn;
    NormAddArgs norm;
  };
  void add_phase(const Op& op, const Step& step);
  Chunked& next_chunked(const Op& op);
  void schedule(Chunked& c, void (*run)(const void*, int64_t, int), int64_t items, int64_t least,
                Part part = kPartOther);
  // `pack`: of the rows to be packed yet, or null.
  void schedule_gemm(Chunked& c, GemmArgs args, const PackArgs* pack, Part part);
  bool packs_later(int64_t rows) const;
  int64_t own_chunk(const Chunked& c, int thread) const;
  void attend_shared(const Chunked& c, const AttnUnit& u, AttnState* total, AttnState* partial);
  void hand_out(const AttnArgs& a, const AttnUnit& u, const AttnState* total);
  void arrive(const Chunked& c, const AttnPlan& plan, int32_t merge, AttnState* total);
  // Attention as a baseline (executor_naive.cpp).
  void plan_naive(const Op& op, const Step& step, AttnPlan* plan);
  void schedule_naive(const Op& op, const AttnArgs& args);
  template <int STAGE> static void run_naive(const void*, int64_t, int);
  // `best_of`: of how many columns only the best is wanted; 0: logits are.
  void head_phases(const int32_t* rows, int64_t count, int64_t best_of);
  void take_best(const int32_t* rows, const std::vector<int32_t>& which, int64_t vocab, SixfoldSampleResult* results);
  void draw(const int32_t* rows, const std::vector<int32_t>& which, const int32_t* targets, const SixfoldSampleParams* params,
            int64_t vocab, SixfoldSampleResult* results);
  static void run_embed(const void*, int64_t, int);
  static void run_pack(const void*, int64_t, int);
  static void run_gemm(const void*, int64_t, int);
  static void run_rope(const void*, int64_t, int);
  static void run_attention(const void*, int64_t, int);
  static void run_norm(const void*, int64_t, int);

  const Kernels* kernels_;
  Pool pool_;
  Tuning tuning_;
  int64_t max_tokens_, max_logit_rows_;
  std::vector<Op> ops_;
  std::vector<Linear> weights_;
  std::vector<const float*> vectors_;
  std::vector<const float*> key_frames_; // per op, or null
  std::vector<std::vector<float>> input_sizes_; // per weight [K]; empty: not observed
  std::vector<Buffer> buffers_;
  std::vector<KVGroup> kv_;
  Head head_{};
  PackedRows packed_{}, packed_head_{};
  struct OwnRows { // a thread's, of one row panel
    PackedRows rows;
    uint64_t serial; // of the phase they were packed for
  };
  std::vector<OwnRows> own_rows_;
  PackArgs to_pack_{}; // left to the GEMM that comes
  bool pack_waits_ = false;
  uint64_t serial_ = 0;
  float* logits_ = nullptr;
  std::vector<Best> best_; // [chunk][kHeadRows]
  std::vector<void*> owned_;
  std::vector<uint8_t> scratch_;
  int64_t scratch_bytes_ = 0;
  std::vector<AttnState> totals_, partials_, split_states_;
  std::vector<AttnPlan> plans_; // per KV group
  std::unique_ptr<std::atomic<int32_t>[]> arrivals_; // per merge, counted up through all layers
  int64_t arrivals_capacity_ = 0;
  bool naive_ = false;
  std::unique_ptr<float[]> scores_; // [token][head][score_stride_] of naive attention
  int64_t scores_capacity_ = 0, score_stride_ = 0;
  std::vector<std::unique_ptr<Chunked>> chunked_;
  std::vector<Phase> phases_;
  std::vector<int32_t> row_slot_;
  std::vector<uint8_t> clears_tail_;
  Step step_{};
};

} // namespace sixfold
