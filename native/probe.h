// Which tiers this CPU runs, and how fast it is at best: read bandwidth and peak arithmetic.
#pragma once
#include <vector>

#include "abi.h"

namespace sixfold {

struct Limits { // all threads together
  double read_gb_s, f32_gflop_s, bf16_gflop_s, int8_gop_s;
};

std::vector<const Kernels*> available_tiers(); // worst first
Limits probe_limits(const Kernels* kernels, int threads, double seconds);

} // namespace sixfold
