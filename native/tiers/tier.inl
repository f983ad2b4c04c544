// Assembles one tier: include after VW, TIER and the tier's own intrinsics are set. Every function
// is static, so that no instruction of a tier can leak into another (no templates of the library).
#include "../ops/vec.inl"
#include "../ops/operands.inl"
#ifdef TIER_AVX2
#include "../ops/gemm_avx2.inl"
#endif
#ifdef TIER_VNNI
#include "../ops/gemm_vnni.inl"
#endif
#ifdef TIER_BF16
#include "../ops/gemm_bf16.inl"
#endif
#include "../ops/rows.inl"
#include "../ops/gemm.inl"
#include "../ops/attention.inl"
#include "../ops/attention_naive.inl"
#include "../ops/peak.inl"
