// The avx2 tier's kernels (compiled with its own instruction flags).
#include "../abi.h"
#include <immintrin.h>
#define VW 8
#define TIER_AVX2

namespace sixfold {
namespace {
#include "tier.inl"
} // namespace

extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = {
    "avx2", pack, gemm, rope_kv, attention, attention_merge, attention_finish, attention_naive, norm_add, peak};

} // namespace sixfold
