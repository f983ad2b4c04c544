#include "probe.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "pool.h"

namespace sixfold {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

struct ReadArgs {
  const uint64_t* data;
  int64_t words; // per chunk
  uint64_t* sink;
};

void run_read(const void* args, int64_t chunk, int) {
  const ReadArgs& a = *(const ReadArgs*)args;
  const uint64_t* p = a.data + chunk * a.words;
  uint64_t sums[16] = {};
  for (int64_t i = 0; i < a.words; i += 16)
    for (int j = 0; j < 16; j++) sums[j] += p[i + j];
  for (uint64_t s : sums) a.sink[chunk * 8] += s;
}

struct PeakArgs {
  const Kernels* kernels;
  int kind;
  int64_t iterations;
};

void run_peak(const void* args, int64_t, int) {
  const PeakArgs& a = *(const PeakArgs*)args;
  a.kernels->peak(a.kind, a.iterations);
}

// Best of the runs that fit the time: a probe looks for the limit, not for the average.
template <class F> double best(double seconds, F run) {
  double top = 0;
  auto start = Clock::now();
  do {
    auto t = Clock::now();
    double work = run();
    top = std::max(top, work / seconds_since(t));
  } while (seconds_since(start) < seconds);
  return top;
}

} // namespace

std::vector<const Kernels*> available_tiers() {
  std::vector<const Kernels*> tiers = {&kernels_generic};
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool vnni = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (avx2) tiers.push_back(&kernels_avx2); // every CPU with AVX2 and FMA has F16C
  if (vnni) tiers.push_back(&kernels_avx512_vnni);
  if (vnni && __builtin_cpu_supports("avx512bf16")) tiers.push_back(&kernels_avx512_bf16);
#endif
  return tiers;
}

Limits probe_limits(const Kernels* kernels, int threads, double seconds) {
  Pool pool(threads);
  const int64_t bytes = 256 << 20, chunks = pool.threads() * 16;
  const int64_t words = bytes / 8 / chunks / 16 * 16;
  uint64_t* data = (uint64_t*)std::aligned_alloc(2 << 20, (size_t)bytes);
  if (!data) return {};
  std::memset(data, 1, (size_t)bytes);
  std::vector<uint64_t> sink((size_t)chunks * 8);
  ReadArgs read = {data, words, sink.data()};
  Limits limits{};
  limits.read_gb_s = best(seconds / 4, [&] {
    Phase phase = {run_read, &read, chunks};
    pool.run(&phase, 1);
    return (double)(words * 8 * chunks) / 1e9;
  });
  double* results[] = {&limits.f32_gflop_s, &limits.bf16_gflop_s, &limits.int8_gop_s};
  for (int kind = 0; kind < 3; kind++) {
    PeakArgs args = {kernels, kind, 50000};
    double operations = kernels->peak(kind, 1); // of one iteration
    *results[kind] = operations == 0 ? 0 : best(seconds / 4, [&] {
      Phase phase = {run_peak, &args, pool.threads() * 8};
      pool.run(&phase, 1);
      return operations * (double)(args.iterations * pool.threads() * 8) / 1e9;
    });
  }
  std::free(data);
  return limits;
}

} // namespace sixfold
