#include "plan.h"

#include <algorithm>

namespace sixfold {
namespace {

// Decodes whose caches are the same blocks in the partials [part, part_end).
struct Shared {
  std::vector<int32_t> requests;
  int32_t part, part_end;
};

struct Piece {
  int64_t cost; // rows x tiles
  AttnUnit unit;
};

int64_t cost_of(int64_t tiles, int64_t rows) { return tiles * (rows + 3); }

class Planner {
public:
  Planner(const PlanShape& shape, const Step& step, AttnPlan* plan) : shape_(shape), step_(step), plan_(*plan), group_(shape.heads / shape.kv_heads) {}

  void run() {
    find_shared();
    list_units();
    int64_t total = 0;
    for (const Piece& p : whole_) total += p.cost;
    for (const Piece& p : stacked_) total += p.cost;
    // Several pieces for every thread; where there is one, nothing is cut.
    share_ = shape_.threads > 1 ? total / (shape_.threads * 4) + 1 : total + 1;
    plan_.units.clear(), plan_.members.clear(), plan_.merging.clear(), plan_.arrivals.clear(), plan_.joined.clear();
    plan_.states = 0;
    merge_of_.assign((size_t)(step_.requests * shape_.kv_heads), -1);
    for (const Piece& p : whole_) cut_whole(p);
    for (size_t i = 0; i < stacked_.size(); i++) cut_stacked(stacked_[i], stacked_members_[i]);
    std::stable_sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.cost > b.cost; });
    for (const Piece& p : pieces_) plan_.units.push_back(p.unit);
  }

private:
  const int32_t* blocks(int32_t request) const { return shape_.block_table + step_.slots[request] * shape_.table_width; }
  int64_t last_position(int64_t request) const { return step_.positions[step_.query_start[request + 1] - 1]; }

  bool same_part(int32_t a, int32_t b, int32_t part) const {
    const int64_t first = part * kPartialTiles;
    return std::equal(blocks(a) + first, blocks(a) + first + kPartialTiles, blocks(b) + first);
  }

  // A partial that a decode's own token cannot be in.
  bool has_part(int32_t request, int32_t part) const { return last_position(request) / kTile >= (part + 1) * kPartialTiles; }

  void find_shared() {
    begins_.assign((size_t)step_.requests, 0);
    if (shape_.window || group_ > kMaxRows) return;
    std::vector<int32_t> decodes;
    for (int32_t r = 0; r < step_.requests; r++)
      if (step_.query_start[r + 1] - step_.query_start[r] == 1 && has_part(r, 0)) decodes.push_back(r);
    // Equal rows next to each other, so that whoever shares a beginning is together at every depth.
    std::sort(decodes.begin(), decodes.end(), [&](int32_t a, int32_t b) {
      const int64_t n = std::min(last_position(a), last_position(b)) / kTile;
      const auto [x, y] = std::mismatch(blocks(a), blocks(a) + n, blocks(b));
      return x == blocks(a) + n ? last_position(a) < last_position(b) : *x < *y;
    });
    share(decodes, 0);
  }

  // `requests` share all partials before `part`; those that go on together do so as one.
  void share(const std::vector<int32_t>& requests, int32_t part) {
    for (size_t i = 0; i < requests.size();) {
      size_t end = i + 1;
      if (has_part(requests[i], part))
        while (end < requests.size() && has_part(requests[end], part) && same_part(requests[i], requests[end], part)) end++;
      if (end - i > 1) {
        std::vector<int32_t> some(requests.begin() + (int64_t)i, requests.begin() + (int64_t)end);
        auto goes_on = [&](int32_t p) {
          return std::all_of(some.begin(), some.end(), [&](int32_t r) { return has_part(r, p) && same_part(some[0], r, p); });
        };
        int32_t until = part + 1;
        while (goes_on(until)) until++;
        for (int32_t r : some) begins_[(size_t)r] = until;
        shared_.push_back({some, part, until});
        share(some, until);
      }
      i = end;
    }
  }

  // KV heads that a decode's unit takes: their pages lie behind one another, so the more the better,
  // as long as every thread has several units.
  int32_t heads_together() const {
    int64_t partials = 0;
    for (int64_t r = 0; r < step_.requests; r++) partials += last_position(r) / kTile / kPartialTiles + 1;
    for (int32_t heads = kUnitTiles; heads > 1; heads /= 2)
      if (partials * ((shape_.kv_heads + heads - 1) / heads) >= shape_.threads * 4) return heads;
    return 1;
  }

  void list_units() {
    // Wide units read the cache once for more rows; narrow ones where threads would lack work.
    const bool wide = step_.tokens * shape_.heads >= (int64_t)shape_.threads * 8 * kUnitTiles * kMaxRows;
    const int64_t most = wide ? kUnitTiles * kMaxRows : kMaxRows;
    const int32_t together = heads_together();
    for (int32_t r = 0; r < step_.requests; r++) {
      const int64_t begin = step_.query_start[r], rows = (step_.query_start[r + 1] - begin) * group_;
      for (int64_t row = 0; row < rows; row += most) {
        const int64_t count = std::min(most, rows - row);
        const int64_t low = step_.positions[begin + row / group_], high = step_.positions[begin + (row + count - 1) / group_];
        int64_t first = shape_.window && low >= shape_.window ? (low - shape_.window + 1) / kTile : 0;
        first = std::max<int64_t>(first, begins_[(size_t)r] * kPartialTiles);
        const int32_t part = (int32_t)(first / kPartialTiles), end = (int32_t)(high / kTile / kPartialTiles + 1);
        const int32_t step = rows <= kMaxRows ? together : 1;
        for (int32_t h = 0; h < shape_.kv_heads; h += step) {
          const int32_t heads = std::min(step, shape_.kv_heads - h);
          whole_.push_back({cost_of(high / kTile - first + 1, count) * heads, {r, h, heads, (int32_t)row, (int32_t)count, part, end, -1, -1, part, -1}});
        }
      }
    }
    list_stacked();
  }

  void list_stacked() {
    const int64_t together = kUnitTiles * kMaxRows / group_;
    for (const Shared& s : shared_) {
      for (int64_t at = 0; at < (int64_t)s.requests.size(); at += together) {
        const auto from = s.requests.begin() + at, to = s.requests.begin() + std::min(at + together, (int64_t)s.requests.size());
        const int32_t rows = (int32_t)((to - from) * group_);
        for (int32_t h = 0; h < shape_.kv_heads; h++) {
          stacked_members_.emplace_back(from, to);
          stacked_.push_back({cost_of((s.part_end - s.part) * kPartialTiles, rows), {*from, h, 1, 0, rows, s.part, s.part_end, -1, -1, 0, 0}});
        }
      }
    }
  }

  // Calls `add` with each piece of about a share, at partials' borders.
  template <class F> void cut(const Piece& p, F add) {
    const int64_t parts = p.unit.part_end - p.unit.part;
    const int64_t pieces = std::min(parts, p.cost / share_ + 1), each = (parts + pieces - 1) / pieces;
    for (int64_t at = p.unit.part; at < p.unit.part_end; at += each) {
      AttnUnit u = p.unit;
      u.part = (int32_t)at;
      u.part_end = (int32_t)std::min<int64_t>(p.unit.part_end, at + each);
      add(Piece{p.cost * (u.part_end - u.part) / parts, u});
    }
  }

  void cut_whole(const Piece& p) {
    AttnUnit u = p.unit;
    const bool shares = begins_[(size_t)u.request] > 0;
    if (!shares && (u.part_end - u.part == 1 || p.cost < share_)) {
      pieces_.push_back(p);
      return;
    }
    // Partials that others compute for it come first.
    const int32_t first = shares ? 0 : u.part;
    u.first_part = first;
    u.split = (int32_t)plan_.states;
    u.merge = (int32_t)plan_.merging.size();
    plan_.states += (int64_t)(u.part_end - first) * tiles_of(u);
    for (int32_t h = 0; shares && h < u.heads; h++) merge_of_[(size_t)(u.request * shape_.kv_heads + u.kv_head + h)] = u.merge;
    int32_t count = 0;
    int32_t joined = 1;
    cut({p.cost, u}, [&](const Piece& piece) {
      pieces_.push_back(piece);
      if (piece.unit.part == first) joined = piece.unit.part_end - first;
      count++;
    });
    u.part = first;
    plan_.merging.push_back(u);
    plan_.joined.push_back(joined);
    plan_.arrivals.push_back(count);
  }

  void cut_stacked(const Piece& p, const std::vector<int32_t>& requests) {
    AttnUnit u = p.unit;
    u.member = (int32_t)plan_.members.size();
    for (int32_t r : requests) {
      const int32_t merge = merge_of_[(size_t)(r * shape_.kv_heads + u.kv_head)];
      const AttnUnit& whole = plan_.merging[(size_t)merge];
      plan_.members.push_back({r, whole.split, tiles_of(whole), u.kv_head - whole.kv_head, merge});
    }
    cut({p.cost, u}, [&](const Piece& piece) {
      pieces_.push_back(piece);
      for (size_t i = 0; i < requests.size(); i++) {
        const size_t merge = (size_t)plan_.members[(size_t)u.member + i].merge;
        plan_.arrivals[merge]++;
        if (!piece.unit.part) plan_.joined[merge] = piece.unit.part_end;
      }
    });
  }

  const PlanShape& shape_;
  const Step& step_;
  AttnPlan& plan_;
  const int32_t group_;
  int64_t share_ = 1;
  std::vector<int32_t> begins_;   // per request: its first partial that it computes by itself
  std::vector<Shared> shared_;
  std::vector<Piece> whole_, stacked_, pieces_;
  std::vector<std::vector<int32_t>> stacked_members_;
  std::vector<int32_t> merge_of_; // per request and KV head
};

} // namespace

void make_plan(const PlanShape& shape, const Step& step, AttnPlan* plan) { Planner(shape, step, plan).run(); }

} // namespace sixfold
