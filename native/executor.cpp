#include "executor.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sixfold {
namespace {

void* allocate(size_t bytes) {
  constexpr size_t kHuge = 2u << 20;
  const size_t unit = bytes < kHuge / 4 ? 64 : kHuge; // a thread's own rows are small
  bytes = (bytes + unit - 1) / unit * unit;
  void* p = std::aligned_alloc(unit, bytes);
  if (!p) throw std::bad_alloc();
#if defined(__linux__)
  madvise(p, bytes, MADV_HUGEPAGE);
#endif
  std::memset(p, 0, bytes);
  return p;
}

// Row `token` of a packed embedding: a strided gather, so that a tied table is stored once.
void embed_row(const Linear& w, int64_t token, float scale, float* out) {
  const uint8_t* panel = w.data + token / kPanel * w.panel_bytes;
  const int64_t column = token % kPanel;
  auto half = [](const uint8_t* p) {
    uint16_t h;
    std::memcpy(&h, p, 2);
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023, u;
    float x = (float)m * 5.9604645e-8f;
    if (e) u = (e + 112) << 23 | m << 13, std::memcpy(&x, &u, 4);
    return sign ? -x : x;
  };
  for (int64_t k = 0; k < w.k; k++) {
    if (w.format == kF32) {
      std::memcpy(out + k, panel + (k * kPanel + column) * 4, 4);
    } else if (w.format == kBF16) {
      uint16_t h;
      std::memcpy(&h, panel + ((k / 2 * kPanel + column) * 2 + k % 2) * 2, 2);
      uint32_t u = (uint32_t)h << 16;
      std::memcpy(out + k, &u, 4);
    } else {
      const bool w4 = w.format == kW4;
      const int64_t codes = w4 ? 512 : 1024, i = k % kRun, run = k / kRun, first = run / w.group_runs * w.group_runs;
      const int64_t before = first / w.group_runs * (w.asym ? 128 : 64); // bytes of scales
      const uint8_t* g = panel + run * codes + before;
      const int64_t end = std::min(first + w.group_runs, w.k_padded / kRun);
      const uint8_t* scales = panel + end * codes + before + column * 2;
      int byte = w4 ? g[i / 8 * 128 + column * 4 + i % 4] : g[i / 4 * 128 + column * 4 + i % 4];
      int code = w4 ? (i % 8 < 4 ? byte & 15 : byte >> 4) : w.asym ? byte : byte - 128;
      out[k] = w.asym ? half(scales) * (float)code + half(scales + 64) : half(scales) * (float)(w4 ? code - 8 : code);
    }
    out[k] *= scale;
  }
}

} // namespace

Executor::Executor(const Kernels* kernels, int threads, int64_t max_tokens, int64_t max_logit_rows)
    : kernels_(kernels), pool_(threads), max_tokens_(max_tokens), max_logit_rows_(max_logit_rows) {}

Executor::~Executor() {
  for (void* p : owned_) std::free(p);
}

void Executor::set_ops(const Op* ops, int64_t count) {
  ops_.assign(ops, ops + count);
  key_frames_.assign((size_t)count, nullptr);
}

void Executor::add_buffer(int64_t width) {
  // 16 floats more than the width: rows of a power of two would fight for the same cache sets.
  int64_t ld = round_up(width, kPanel) + 16;
  float* data = (float*)allocate((size_t)(row_panels(max_tokens_) * kMR * ld) * 4);
  owned_.push_back(data);
  buffers_.push_back({width, ld, data});
}

void Executor::set_kv(int64_t group, const KVGroup& kv) {
  if ((int64_t)kv_.size() <= group) kv_.resize((size_t)group + 1), plans_.resize((size_t)group + 1);
  kv_[(size_t)group] = kv;
}

void Executor::prepare() {
  int64_t k = kRun, units = kRun, outliers = 0;
  for (const Linear& w : weights_) {
    k = std::max(k, w.k_padded);
    outliers = std::max(outliers, w.outliers);
    units = std::max(units, w.format == kF32 ? w.k_padded : w.format == kBF16 ? w.k_padded / 2 : w.k_padded / 4);
  }
  auto allocate_rows = [&](int64_t rows) {
    int64_t lanes = row_panels(rows) * kMR;
    PackedRows p;
    owned_.push_back(p.units = (uint32_t*)allocate((size_t)(lanes * units) * 4));
    owned_.push_back(p.scales = (float*)allocate((size_t)(lanes * (k / (kRun * kBlockRuns) + 2)) * 4));
    owned_.push_back(p.offsets = (int32_t*)allocate((size_t)(lanes * (k / kRun)) * 4));
    owned_.push_back(p.outliers = (uint32_t*)allocate((size_t)(lanes * (outliers / 2 + 1)) * 4));
    return p;
  };
  packed_ = allocate_rows(max_tokens_);
  packed_head_ = allocate_rows(kHeadRows);
  for (int t = 0; t < pool_.threads(); t++) own_rows_.push_back({allocate_rows(kMR), 0});
  totals_.resize((size_t)(pool_.threads() * kUnitTiles));
  partials_.resize((size_t)(pool_.threads() * kUnitTiles));
  row_slot_.resize((size_t)max_tokens_);
  clears_tail_.resize((size_t)max_tokens_);
  int64_t vocab = weights_.empty() ? 0 : weights_[(size_t)head_.weight].panels * kPanel;
  owned_.push_back(logits_ = (float*)allocate((size_t)(kHeadRows * (vocab + 16)) * 4 + 64));
  scratch_bytes_ = round_up(sixfold_sample_scratch_bytes(vocab), 64);
  scratch_.resize((size_t)(pool_.threads() * scratch_bytes_ + 64));
}

void Executor::observe_inputs() {
  assert(pool_.threads() == 1); // sums are added up without locks
  input_sizes_.clear();
  for (const Linear& w : weights_) input_sizes_.emplace_back((size_t)w.k, 0.0f);
}

// One row panel is packed sooner by every thread than by one while the others wait.
bool Executor::packs_later(int64_t rows) const { return row_panels(rows) == 1 && pool_.threads() > 1; }

void Executor::schedule(Chunked& c, void (*run)(const void*, int64_t, int), int64_t items, int64_t least, Part part) {
  c.self = this;
  c.items = items;
  c.per_chunk = pool_.threads() == 1 ? items : std::max(least, items / (pool_.threads() * tuning_.chunks));
  phases_.push_back({run, &c, (items + c.per_chunk - 1) / c.per_chunk, part});
}

void Executor::schedule_gemm(Chunked& c, GemmArgs args, const PackArgs* pack, Part part) {
  c.gemm = args;
  c.gemm.distance = tuning_.distance;
  c.serial = ++serial_;
  c.packs_itself = pack != nullptr;
  if (pack) c.pack = *pack;
  if (!c.cursors) c.cursors = std::make_unique<Cursor[]>((size_t)pool_.threads());
  for (int t = 0; t < pool_.threads(); t++) c.cursors[(size_t)t].next.store(0, std::memory_order_relaxed);
  schedule(c, run_gemm, args.w->panels, 1, part);
}

// As many calls as chunks: each finds one, its own first.
int64_t Executor::own_chunk(const Chunked& c, int thread) const {
  const int64_t chunks = (c.items + c.per_chunk - 1) / c.per_chunk, threads = pool_.threads();
  for (int64_t k = 0;; k++) {
    const int64_t owner = (thread + k) % threads, first = chunks * owner / threads, end = chunks * (owner + 1) / threads;
    std::atomic<int64_t>& next = c.cursors[(size_t)owner].next;
    if (first + next.load(std::memory_order_relaxed) >= end) continue;
    const int64_t chunk = first + next.fetch_add(1, std::memory_order_relaxed);
    if (chunk < end) return chunk;
  }
}

static void range(int64_t chunk, int64_t per_chunk, int64_t items, int64_t* begin, int64_t* end) {
  *begin = chunk * per_chunk;
  *end = std::min(items, *begin + per_chunk);
}

void Executor::run_embed(const void* args, int64_t chunk, int) {
  const Chunked& c = *(const Chunked*)args;
  int64_t begin, end;
  range(chunk, c.per_chunk, c.items, &begin, &end);
  Buffer& out = c.self->buffers_[(size_t)c.op->out];
  for (int64_t r = begin; r < end; r++)
    embed_row(c.self->weights_[(size_t)c.op->weight], c.self->step_.token_ids[r], (float)c.op->scale, out.data + r * out.ld);
}

void Executor::run_pack(const void* args, int64_t chunk, int) {
  const Chunked& c = *(const Chunked*)args;
  int64_t begin, end;
  range(chunk, c.per_chunk, c.items, &begin, &end);
  c.self->kernels_->pack(c.pack, begin, end);
}

void Executor::run_gemm(const void* args, int64_t, int thread) {
  const Chunked& c = *(const Chunked*)args;
  const int64_t chunk = c.self->own_chunk(c, thread);
  int64_t begin, end;
  range(chunk, c.per_chunk, c.items, &begin, &end);
  GemmArgs gemm = c.gemm;
  if (c.packs_itself) {
    OwnRows& own = c.self->own_rows_[(size_t)thread];
    if (own.serial != c.serial) {
      PackArgs pack = c.pack;
      pack.out = own.rows;
      c.self->kernels_->pack(pack, 0, 1);
      own.serial = c.serial;
    }
    gemm.a = own.rows;
  }
  if (gemm.mode == kBest) {
    gemm.best += chunk * kHeadRows;
    std::fill(gemm.best, gemm.best + gemm.m, Best{-std::numeric_limits<float>::infinity(), -1});
  }
  c.self->kernels_->gemm(gemm, begin, end);
}

void Executor::run_rope(const void* args, int64_t chunk, int) {
  const Chunked& c = *(const Chunked*)args;
  int64_t begin, end;
  range(chunk, c.per_chunk, c.items, &begin, &end);
  c.self->kernels_->rope_kv(c.rope, begin, end);
}

void Executor::run_norm(const void* args, int64_t chunk, int) {
  const Chunked& c = *(const Chunked*)args;
  int64_t begin, end;
  range(chunk, c.per_chunk, c.items, &begin, &end);
  c.self->kernels_->norm_add(c.norm, begin, end);
}

void Executor::run_attention(const void* args, int64_t chunk, int thread) {
  const Chunked& c = *(const Chunked*)args;
  Executor& e = *c.self;
  const AttnPlan& plan = e.plans_[(size_t)c.op->kv_group];
  int64_t begin, end;
  range(chunk, c.per_chunk, c.items, &begin, &end);
  AttnState *total = &e.totals_[(size_t)(thread * kUnitTiles)], *partial = &e.partials_[(size_t)(thread * kUnitTiles)];
  const int64_t skip = c.per_chunk * (e.pool_.threads() - 1), count = (int64_t)plan.units.size();
  for (int64_t i = begin; i < end; i++) {
    const AttnUnit& u = plan.units[(size_t)i];
    const int64_t then = i + 1 < end ? i + 1 : end + skip;
    const AttnUnit* next = then < count ? &plan.units[(size_t)then] : nullptr;
    AttnState* own = u.split < 0 ? nullptr : &e.split_states_[(size_t)(u.split + (u.part - u.first_part) * tiles_of(u))];
    if (u.member >= 0) {
      e.attend_shared(c, u, total, partial);
      const int32_t requests = u.rows / (c.attn.num_heads / c.attn.num_kv_heads);
      for (int32_t r = 0; r < requests; r++) e.arrive(c, plan, plan.members[(size_t)(u.member + r)].merge, total);
    } else if (!own) {
      e.kernels_->attention(c.attn, u, next, total, partial, nullptr);
      e.kernels_->attention_finish(c.attn, u, total);
    } else if (u.part == u.first_part) { // what merges first may do so at once
      e.kernels_->attention(c.attn, u, next, total, partial, nullptr);
      std::copy(total, total + tiles_of(u), own + (u.part_end - u.part - 1) * tiles_of(u));
      e.arrive(c, plan, u.merge, total);
    } else {
      e.kernels_->attention(c.attn, u, next, nullptr, nullptr, own);
      e.arrive(c, plan, u.merge, total);
    }
  }
}

// For all members at once, then each row goes to its request's state of the last partial that is in
// it: all of them from the first one on, or else one after the other.
void Executor::attend_shared(const Chunked& c, const AttnUnit& u, AttnState* total, AttnState* partial) {
  AttnUnit some = u;
  for (; some.part < u.part_end; some.part = some.part_end) {
    some.part_end = some.part == some.first_part ? u.part_end : some.part + 1;
    kernels_->attention(c.attn, some, nullptr, total, partial, nullptr);
    hand_out(c.attn, some, total);
  }
}

void Executor::hand_out(const AttnArgs& a, const AttnUnit& u, const AttnState* total) {
  const int32_t group = a.num_heads / a.num_kv_heads;
  for (int32_t row = 0; row < u.rows; row++) {
    const AttnState& from = total[row / kMaxRows];
    const SharedMember& member = a.members[u.member + row / group];
    AttnState& to = split_states_[(size_t)(member.split + (u.part_end - 1) * member.tiles + member.tile)];
    const int32_t m = row % kMaxRows, head = row % group;
    std::memcpy(to.o[head], from.o[m], (size_t)a.head_dim * 4);
    to.m[head] = from.m[m];
    to.l[head] = from.l[m];
  }
}

int64_t Executor::stacked() const {
  int64_t members = 0;
  for (const AttnPlan& plan : plans_) members += (int64_t)plan.members.size();
  return members;
}

// The last piece of a unit to arrive merges its partials, in order.
void Executor::arrive(const Chunked& c, const AttnPlan& plan, int32_t merge, AttnState* total) {
  const int32_t arrived = arrivals_[(size_t)merge].fetch_add(1, std::memory_order_acq_rel) + 1;
  if (arrived % plan.arrivals[(size_t)merge]) return;
  const AttnUnit& u = plan.merging[(size_t)merge];
  const int64_t tiles = tiles_of(u);
  const AttnState* states = &split_states_[(size_t)u.split];
  const int32_t joined = plan.joined[(size_t)merge];
  std::copy(states + (joined - 1) * tiles, states + joined * tiles, total);
  for (int32_t p = joined; p < u.part_end - u.part; p++) kernels_->attention_merge(c.attn, u, total, states + p * tiles);
  kernels_->attention_finish(c.attn, u, total);
}

Executor::Chunked& Executor::next_chunked(const Op& op) {
  if (phases_.size() == chunked_.size()) chunked_.push_back(std::make_unique<Chunked>());
  Chunked& c = *chunked_[phases_.size()];
  c.op = &op;
  return c;
}

void Executor::add_phase(const Op& op, const Step& s) {
  Chunked& c = next_chunked(op);
  auto vector_at = [&](int64_t i) { return i < 0 ? nullptr : vectors_[(size_t)i]; };
  const int64_t t = s.tokens;
  switch (op.kind) {
    case kOpEmbed: return schedule(c, run_embed, t, 1);
    case kOpPack: {
      Buffer& in = buffers_[(size_t)op.in];
      std::vector<float>* sizes = input_sizes_.empty() ? nullptr : &input_sizes_[(size_t)op.weight];
      c.pack = {in.data, in.ld, nullptr, t, &weights_[(size_t)op.weight], vector_at(op.norm), (float)op.eps, sizes ? sizes->data() : nullptr, packed_};
      to_pack_ = c.pack;
      pack_waits_ = packs_later(t);
      if (pack_waits_) return;
      return schedule(c, run_pack, row_panels(t), 1);
    }
    case kOpGemm: {
      Buffer& out = buffers_[(size_t)op.out];
      const Linear& w = weights_[(size_t)op.weight];
      const bool in_place = out.data == to_pack_.x; // then rows must be packed before results come
      if (pack_waits_ && in_place) {
        c.pack = to_pack_;
        schedule(c, run_pack, row_panels(t), 1);
        pack_waits_ = false;
        return add_phase(op, s);
      }
      return schedule_gemm(c, {&w, packed_, t, out.data, out.ld, (int32_t)op.mode, 0, nullptr, 0}, pack_waits_ ? &to_pack_ : nullptr, kPartGemm);
    }
    case kOpRopeKV: {
      Buffer& x = buffers_[(size_t)op.in];
      c.rope = {x.data, x.ld, (int32_t)op.heads, (int32_t)op.kv_heads, (int32_t)op.head_dim, vector_at(op.norm), vector_at(op.norm2),
                (float)op.eps, vectors_[(size_t)op.rope], s.positions, row_slot_.data(), clears_tail_.data(), &kv_[(size_t)op.kv_group], (int32_t)op.cache_layer,
                key_frames_[(size_t)(&op - ops_.data())]};
      return schedule(c, run_rope, t, 2);
    }
    case kOpAttention: {
      Buffer &in = buffers_[(size_t)op.in], &out = buffers_[(size_t)op.out];
      c.attn = {in.data, in.ld, out.data, out.ld, (int32_t)op.heads, (int32_t)op.kv_heads, (int32_t)op.head_dim, (float)op.scale,
                (int32_t)op.window, (int32_t)op.cache_layer, &kv_[(size_t)op.kv_group], s.query_start, s.positions, s.slots,
                plans_[(size_t)op.kv_group].members.data()};
      const AttnPlan& plan = plans_[(size_t)op.kv_group];
      if (naive_) return schedule_naive(op, AttnArgs(c.attn));
      schedule(c, run_attention, (int64_t)plan.units.size(), 1, kPartAttention);
      if (!plan.merging.empty()) { // a piece per chunk: pieces were cut to be handed out one by one
        c.per_chunk = 1;
        phases_.back().chunks = c.items;
      }
      return;
    }
    default: {
      Buffer &x = buffers_[(size_t)op.out], &y = buffers_[(size_t)op.in];
      c.norm = {x.data, x.ld, y.data, y.ld, vector_at(op.norm), (float)op.eps, x.width, op.mode == kAdd};
      return schedule(c, run_norm, t, 2);
    }
  }
}

void Executor::forward(const Step& step, int64_t begin, int64_t end) {
  step_ = step;
  phases_.clear();
  pack_waits_ = false;
  std::fill(clears_tail_.begin(), clears_tail_.begin() + step.tokens, 0);
  for (int64_t r = 0; r < step.requests; r++) {
    const int32_t first = step.query_start[r], last = step.query_start[r + 1] - 1;
    std::fill(row_slot_.begin() + first, row_slot_.begin() + last + 1, step.slots[r]);
    clears_tail_[(size_t)last] = step.positions[last] / kTile * kTile >= step.positions[first];
  }
  int64_t states = 0, merges = 0;
  std::vector<bool> planned(plans_.size(), false);
  for (int64_t i = begin; i < end; i++) {
    const Op& op = ops_[(size_t)i];
    if (op.kind != kOpAttention || planned[(size_t)op.kv_group]) continue;
    planned[(size_t)op.kv_group] = true;
    AttnPlan& plan = plans_[(size_t)op.kv_group];
    const KVGroup& kv = kv_[(size_t)op.kv_group];
    if (naive_) {
      plan_naive(op, step, &plan);
      continue;
    }
    make_plan({(int32_t)op.heads, (int32_t)op.kv_heads, (int32_t)op.window, pool_.threads(), kv.block_table, kv.table_width}, step, &plan);
    states = std::max(states, plan.states);
    merges = std::max(merges, (int64_t)plan.merging.size());
  }
  if ((int64_t)split_states_.size() < states) split_states_.resize((size_t)states);
  if (arrivals_capacity_ < merges) {
    arrivals_capacity_ = merges * 2;
    arrivals_ = std::make_unique<std::atomic<int32_t>[]>((size_t)arrivals_capacity_);
  }
  for (int64_t i = 0; i < arrivals_capacity_; i++) arrivals_[(size_t)i].store(0, std::memory_order_relaxed);
  for (int64_t i = begin; i < end; i++) add_phase(ops_[(size_t)i], step);
  pool_.run(phases_.data(), (int64_t)phases_.size());
}

} // namespace sixfold
