#include "pool.h"

#include <cassert>
#include <chrono>

// Where a thread may lose its core at a bad moment: the stress test sleeps here.
#ifndef SIXFOLD_POOL_PAUSE
#define SIXFOLD_POOL_PAUSE() ((void)0)
#define SIXFOLD_POOL_LOOKS 64 // at a condition for one at the clock
#else
#define SIXFOLD_POOL_LOOKS 1
#endif

namespace sixfold {
namespace {

constexpr int64_t kMaxPhases = 1 << 14;
constexpr int kChunkBits = 20, kEpochShift = 2 * kChunkBits;
constexpr uint64_t kMask = (1u << kChunkBits) - 1;
constexpr uint64_t kEpochMask = (1u << 24) - 1;
constexpr auto kSpin = std::chrono::microseconds(50);

inline uint64_t chunks_of(uint64_t ticket) { return ticket >> kChunkBits & kMask; }

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The cheapest clock there is; run() relates it to seconds.
inline uint64_t ticks() {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_ia32_rdtsc();
#else
  return (uint64_t)std::chrono::steady_clock::now().time_since_epoch().count();
#endif
}

// Spins until `done()` or 50 us have gone; true when it came true.
template <class F> bool spin(F done) {
  if (done()) return true;
  auto limit = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < SIXFOLD_POOL_LOOKS; i++) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < limit);
  return done();
}

} // namespace

Pool::Pool(int threads) : threads_(threads < 1 ? 1 : threads), slots_(kMaxPhases) {
  for (int t = 1; t < threads_; t++) workers_.emplace_back([this, t] { work(t); });
}

Pool::~Pool() {
  stop_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (auto& w : workers_) w.join();
}

bool Pool::take(Slot& slot, uint64_t epoch, int64_t* chunk) {
  uint64_t v = slot.ticket.load(std::memory_order_acquire);
  for (;;) {
    uint64_t i = v & kMask;
    if (v >> kEpochShift != epoch || i >= chunks_of(v)) return false;
    if (slot.ticket.compare_exchange_weak(v, v + 1, std::memory_order_acq_rel)) {
      *chunk = (int64_t)i;
      return true;
    }
  }
}

void Pool::await(Slot& slot, uint64_t epoch) {
  auto over = [&] {
    uint64_t v = slot.ticket.load(std::memory_order_acquire);
    if (v >> kEpochShift != epoch) return true;
    SIXFOLD_POOL_PAUSE();
    uint32_t target = slot.target.load(std::memory_order_relaxed);
    return (int32_t)(slot.done.load(std::memory_order_acquire) - target) >= 0;
  };
  while (!spin(over)) {
    SIXFOLD_POOL_PAUSE();
    uint32_t seen = slot.done.load(std::memory_order_acquire);
    if (over()) return;
    SIXFOLD_POOL_PAUSE();
    slot.done.wait(seen, std::memory_order_acquire);
  }
}

void Pool::walk(uint64_t epoch, int64_t count, int thread) {
  uint64_t before = thread == 0 ? ticks() : 0;
  auto book = [&](Part part) {
    uint64_t now = ticks();
    ticks_[part] += now - before;
    before = now;
  };
  for (int64_t i = 0; i < count; i++) {
    Slot& slot = slots_[i];
    int64_t chunk;
    while (take(slot, epoch, &chunk)) {
      // The chunk is ours, so the caller waits for it: phases_ cannot change under us.
      phases_[i].run(phases_[i].args, chunk, thread);
      uint32_t target = slot.target.load(std::memory_order_relaxed);
      if (slot.done.fetch_add(1, std::memory_order_acq_rel) + 1 == target) slot.done.notify_all();
    }
    if (slot.ticket.load(std::memory_order_relaxed) >> kEpochShift != epoch) return;
    if (thread == 0) book(phases_[i].part);
    await(slot, epoch);
    if (thread == 0) book(kPartWait);
  }
}

void Pool::work(int thread) {
  uint64_t seen_epoch = 0;
  for (;;) {
    uint32_t ticket = wake_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    uint64_t epoch = epoch_.load(std::memory_order_acquire);
    if (epoch == seen_epoch) {
      if (!spin([&] { return wake_.load(std::memory_order_acquire) != ticket; })) wake_.wait(ticket);
      continue;
    }
    seen_epoch = epoch;
    walk(epoch, count_.load(std::memory_order_relaxed), thread);
  }
}

void Pool::run(const Phase* phases, int64_t count) {
  assert(count <= kMaxPhases);
  uint64_t epoch = (epoch_.load(std::memory_order_relaxed) + 1) & kEpochMask;
  phases_ = phases;
  count_.store(count, std::memory_order_relaxed);
  for (int64_t i = 0; i < count; i++) {
    assert(phases[i].chunks > 0 && phases[i].chunks <= (int64_t)kMask);
    uint32_t done = slots_[i].done.load(std::memory_order_relaxed);
    slots_[i].target.store(done + (uint32_t)phases[i].chunks, std::memory_order_relaxed);
    slots_[i].ticket.store(epoch << kEpochShift | (uint64_t)phases[i].chunks << kChunkBits,
                           std::memory_order_release);
  }
  epoch_.store(epoch, std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_release);
  if (threads_ > 1) wake_.notify_all();
  auto began = std::chrono::steady_clock::now();
  uint64_t first = ticks();
  walk(epoch, count, 0);
  run_ticks_ += ticks() - first;
  run_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

std::array<double, kParts> Pool::seconds() const {
  std::array<double, kParts> found{};
  for (int part = 0; part < kParts && run_ticks_; part++)
    found[part] = run_seconds_ * (double)ticks_[part] / (double)run_ticks_;
  return found;
}

} // namespace sixfold
