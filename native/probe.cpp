#include "probe.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sixfold {
namespace {

constexpr int64_t kReadBytes = 256 << 20, kReadChunks = 16; // chunks per thread

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
template <class F> double best(double seconds, F rate) {
  double top = 0;
  auto start = Clock::now();
  do top = std::max(top, rate());
  while (seconds_since(start) < seconds);
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

LimitProbe::LimitProbe(const Kernels* kernels, int threads)
    : kernels_(kernels), pool_(threads), data_((uint64_t*)std::aligned_alloc(2 << 20, (size_t)kReadBytes)),
      sink_((size_t)pool_.threads() * kReadChunks * 8) {
  if (!data_) return;
#if defined(__linux__)
  madvise(data_, (size_t)kReadBytes, MADV_HUGEPAGE);
#endif
  std::memset(data_, 1, (size_t)kReadBytes);
}

LimitProbe::~LimitProbe() { std::free(data_); }

double LimitProbe::read() {
  if (!data_) return 0;
  const int64_t chunks = pool_.threads() * kReadChunks, words = kReadBytes / 8 / chunks / 16 * 16;
  ReadArgs args = {data_, words, sink_.data()};
  Phase phase = {run_read, &args, chunks};
  auto begin = Clock::now();
  pool_.run(&phase, 1);
  return (double)(words * 8 * chunks) / 1e9 / seconds_since(begin);
}

double LimitProbe::arithmetic(int kind) {
  const double operations = kernels_->peak(kind, 1); // of one iteration
  if (operations == 0) return 0;
  PeakArgs args = {kernels_, kind, 50000};
  Phase phase = {run_peak, &args, pool_.threads() * 8};
  auto begin = Clock::now();
  pool_.run(&phase, 1);
  return operations * (double)(args.iterations * phase.chunks) / 1e9 / seconds_since(begin);
}

Limits probe_limits(const Kernels* kernels, int threads, double seconds) {
  LimitProbe probe(kernels, threads);
  Limits limits{};
  limits.read_gb_s = best(seconds / 4, [&] { return probe.read(); });
  double* results[] = {&limits.f32_gflop_s, &limits.bf16_gflop_s, &limits.int8_gop_s};
  for (int kind = 0; kind < 3; kind++) *results[kind] = best(seconds / 4, [&] { return probe.arithmetic(kind); });
  return limits;
}

} // namespace sixfold
