// The avx512_vnni tier's kernels (compiled with its own instruction flags).
#include "../abi.h"
#include <immintrin.h>
#define VW 16
#define TIER_VNNI

namespace sixfold {
namespace {
#include "tier.inl"
} // namespace

extern const Kernels kernels_avx512_vnni;
const Kernels kernels_avx512_vnni = {
    "avx512_vnni", pack, gemm, rope_kv, attention, attention_merge, attention_finish, attention_naive, norm_add, peak};

} // namespace sixfold
