// Which tiers this CPU runs, and how fast it is at best: read bandwidth and peak arithmetic.
#pragma once
#include <cstdint>
#include <vector>

#include "abi.h"
#include "pool.h"

namespace sixfold {

struct Limits { // all threads together
  double read_gb_s, f32_gflop_s, bf16_gflop_s, int8_gop_s;
};

std::vector<const Kernels*> available_tiers(); // worst first

// Measures one limit in milliseconds, again and again, beside what is to be held against it.
class LimitProbe {
public:
  LimitProbe(const Kernels* kernels, int threads);
  ~LimitProbe();
  LimitProbe(const LimitProbe&) = delete;
  LimitProbe& operator=(const LimitProbe&) = delete;

  double read();                // GB/s of one pass over 256 MiB; 0 without memory for it
  double arithmetic(int kind);  // 1e9 operations/s: 0 f32, 1 bf16, 2 int8; 0 if the tier has none

private:
  const Kernels* kernels_;
  Pool pool_;
  uint64_t* data_;
  std::vector<uint64_t> sink_;
};

Limits probe_limits(const Kernels* kernels, int threads, double seconds);

} // namespace sixfold
