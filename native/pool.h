// The thread pool: walks a list of phases in lock step, handing each phase's work out in chunks.
//
// A phase is over when its chunks are done, not when every thread has come by: a descheduled thread
// that holds no chunk stalls nobody, for the API server shares these cores. Threads spin at most
// 50 us, then sleep. Not a general task system: one caller, one list of phases at a time.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace sixfold {

// What a phase's time is booked under; kPartWait: the caller waits for other threads' chunks.
enum Part : int32_t { kPartGemm = 0, kPartAttention = 1, kPartHead = 2, kPartSample = 3, kPartOther = 4, kPartWait = 5, kParts = 6 };

struct Phase {
  void (*run)(const void* args, int64_t chunk, int thread);
  const void* args;
  int64_t chunks;
  Part part = kPartOther;
};

class Pool {
public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }
  // Runs the phases in order on all threads, the caller among them. Not reentrant.
  void run(const Phase* phases, int64_t count);
  // Seconds that the caller has spent in all runs so far, by part. For the caller's thread.
  std::array<double, kParts> seconds() const;

private:
  // `ticket` holds epoch (24 bits), chunks (20) and next chunk (20) in one word, so that a thread
  // late from an earlier run can neither take a chunk nor mistake the count. `done` counts on over
  // all runs up to `target` of the latest: a thread that falls asleep on a value it saw in an
  // earlier run must never find that value again.
  struct alignas(64) Slot {
    std::atomic<uint64_t> ticket{0};
    std::atomic<uint32_t> done{0};
    std::atomic<uint32_t> target{0};
  };
  void work(int thread);
  void walk(uint64_t epoch, int64_t count, int thread);
  bool take(Slot& slot, uint64_t epoch, int64_t* chunk);
  void await(Slot& slot, uint64_t epoch);

  int threads_;
  std::vector<std::thread> workers_;
  std::vector<Slot> slots_;
  const Phase* phases_ = nullptr;
  std::atomic<int64_t> count_{0};
  std::atomic<uint64_t> epoch_{0};
  std::atomic<uint32_t> wake_{0};
  std::atomic<bool> stop_{false};
  std::array<uint64_t, kParts> ticks_{}; // of the caller only: a clock read per phase
  uint64_t run_ticks_ = 0;
  double run_seconds_ = 0.0;
};

} // namespace sixfold
