// The generic tier's kernels (compiled with its own instruction flags).
#include "../abi.h"
#define VW 4

namespace sixfold {
namespace {
#include "tier.inl"
} // namespace

extern const Kernels kernels_generic;
const Kernels kernels_generic = {
    "generic", pack, gemm, rope_kv, attention, attention_merge, attention_finish, attention_naive, norm_add, peak};

} // namespace sixfold
