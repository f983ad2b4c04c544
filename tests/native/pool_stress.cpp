// Stress for the thread pool: every chunk runs exactly once, and a phase begins only when the one
// before is done, over many runs, phase counts, chunk counts and more threads than cores.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "pool.h"

// Built with -DSIXFOLD_POOL_PAUSE=lose_the_core: pool.cpp calls this where it hurts most.
void lose_the_core() {
  thread_local std::minstd_rand rng((unsigned)std::hash<std::thread::id>{}(std::this_thread::get_id()));
  if (rng() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng() % 500));
}

namespace {

struct Work {
  std::atomic<int64_t> ran{0};
  std::vector<std::atomic<int>> hits;
  const Work* before = nullptr;
  int64_t chunks;
  int64_t plain = 0; // written without atomics by chunk 0, read by the next phase: a race if order breaks
  explicit Work(int64_t n) : hits((size_t)n), chunks(n) {}
};

void fail(const char* what) {
  std::fprintf(stderr, "pool_stress: %s\n", what);
  std::exit(1);
}

void run(const void* args, int64_t chunk, int) {
  Work& w = *(Work*)const_cast<void*>(args);
  if (w.before && (w.before->ran.load() != w.before->chunks || w.before->plain != 1))
    fail("a phase began before the one before was done");
  if (w.hits[(size_t)chunk].fetch_add(1) != 0) fail("a chunk ran twice");
  if (chunk == 0) w.plain = 1;
  w.ran.fetch_add(1);
}

void slow_end(const void*, int64_t chunk, int) {
  if (chunk == 15) std::this_thread::sleep_for(std::chrono::microseconds(150));
}

// Equal runs one after the other, then the end: a thread that slept through a whole run must not
// take the next one's count for the one it saw, or the pool's end waits for it for ever.
void short_lives(int pools) {
  const sixfold::Phase phase = {slow_end, nullptr, 16};
  for (int p = 0; p < pools; p++) {
    sixfold::Pool pool(4);
    for (int r = 0; r < 2; r++) pool.run(&phase, 1);
  }
}

} // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 300;
  std::mt19937 rng(1);
  for (int threads : {1, 2, 3, 8}) {
    sixfold::Pool pool(threads);
    for (int r = 0; r < runs; r++) {
      std::vector<std::unique_ptr<Work>> work;
      std::vector<sixfold::Phase> phases;
      const int count = 1 + (int)(rng() % 40);
      for (int i = 0; i < count; i++) {
        work.push_back(std::make_unique<Work>(1 + (int64_t)(rng() % 9)));
        if (i) work[(size_t)i]->before = work[(size_t)i - 1].get();
        phases.push_back({run, work.back().get(), work.back()->chunks});
      }
      pool.run(phases.data(), count);
      for (const auto& w : work)
        if (w->ran.load() != w->chunks) fail("a chunk did not run");
    }
  }
  short_lives(20 * runs);
  std::puts("pool_stress: every chunk ran once, in order");
}
