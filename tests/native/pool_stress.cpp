// Stress for the thread pool: every chunk runs exactly once, and a phase begins only when the one
// before is done, over many runs, phase counts, chunk counts and more threads than cores.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "pool.h"

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
  std::puts("pool_stress: every chunk ran once, in order");
}
