// The avx512_bf16 tier's kernels (compiled with its own instruction flags).
#include "../abi.h"
#include <immintrin.h>
#define VW 16
#define TIER_VNNI
#define TIER_BF16

namespace sixfold {
namespace {
#include "tier.inl"
} // namespace

extern const Kernels kernels_avx512_bf16;
const Kernels kernels_avx512_bf16 = {
    "avx512_bf16", pack, gemm, rope_kv, attention, attention_merge, attention_finish, attention_naive, norm_add, peak};

} // namespace sixfold
