// Vectors of the tier's width, by the compiler's vector extension, and the few maths they need.
// VW (floats per vector) is set by the tier before this file is included.

// For helpers whose arrays are registers: a call, which GCC prefers once a file has grown, would put
// them into memory and take half the speed.
#define IN_PLACE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef int8_t vb __attribute__((vector_size(VW)));
typedef float vf_u __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int32_t vi_u __attribute__((vector_size(VW * 4), aligned(4), may_alias));

static inline vf load(const float* p) { return *(const vf_u*)p; }
static inline vi load_i(const void* p) { return *(const vi_u*)p; }
static inline void store(float* p, vf v) { *(vf_u*)p = v; }
static inline vf splat(float x) { return x - (vf){}; }
static inline vf as_f(vi v) { return (vf)v; }
static inline vi as_i(vf v) { return (vi)v; }
static inline vf vmax(vf a, vf b) { return a > b ? a : b; }
static inline vf vmin(vf a, vf b) { return a < b ? a : b; }
static inline vf vabs(vf a) { return as_f(as_i(a) & 0x7fffffff); }

#ifdef TIER_VNNI
// 14 bits and a step of Newton's: 2^-23 relative, a third of a division's time. For x >= 1.
static inline vf reciprocal(vf x) {
  vf r = (vf)_mm512_rcp14_ps((__m512)x);
  return r * (2.0f - x * r);
}
#else
static inline vf reciprocal(vf x) { return 1.0f / x; }
#endif

static inline float as_float(int32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

#ifdef TIER_VNNI
static inline float max_lane(vf v) { return _mm512_reduce_max_ps((__m512)v); }
static inline float sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
#else
static inline float sum(vf v) {
  float lanes[VW];
  store(lanes, v);
  for (int width = VW / 2; width; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}
static inline float max_lane(vf v) {
  float lanes[VW];
  store(lanes, v);
  for (int width = VW / 2; width; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
  return lanes[0];
}
#endif

// Whether one of 32 floats is greater than x.
static inline bool any_above(const float* v, float x) {
#ifdef TIER_VNNI
  const __m512 limit = _mm512_set1_ps(x);
  return _mm512_cmp_ps_mask(_mm512_loadu_ps(v), limit, _CMP_GT_OQ) | _mm512_cmp_ps_mask(_mm512_loadu_ps(v + 16), limit, _CMP_GT_OQ);
#else
  vi above = load(v) > x;
  for (int i = VW; i < 32; i += VW) above |= load(v + i) > x;
  int32_t lanes[VW], any = 0;
  __builtin_memcpy(lanes, &above, sizeof above);
  for (int i = 0; i < VW; i++) any |= lanes[i];
  return any != 0;
#endif
}

// 2^x: round to the nearest integer, degree-6 polynomial on [-0.5, 0.5] (2e-7 relative), exponent
// added to the bits. Exactly 1 at 0 and exactly 0 below -126: masked keys must not leave a trace.
static inline vf exp2v(vf x) {
  const vf magic = splat(12582912.0f);
  vf clamped = vmin(vmax(x, splat(-126.0f)), splat(127.0f));
  vf shifted = clamped + magic;
  vf f = clamped - (shifted - magic);
  vf p = splat(1.5403530e-4f);
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  vf scaled = as_f(as_i(p) + ((as_i(shifted) - as_i(magic)) << 23));
  return x < -126.0f ? splat(0.0f) : scaled;
}
static inline vf expv(vf x) { return exp2v(x * 1.44269504f); }

#ifdef TIER_BF16
#define PAIRS_BF16
static inline void pairs_bf16(const float* x, uint32_t* pairs) {
  _mm512_storeu_si512(pairs, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x)));
}
#endif

// Round to nearest even; NaN stays NaN because its payload's top bit is set before.
static inline uint16_t to_bf16(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 0x40);
  return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
static inline float from_bf16(uint16_t h) {
  uint32_t u = (uint32_t)h << 16;
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}
static inline uint32_t pair_bf16(float low, float high) {
  return (uint32_t)to_bf16(low) | (uint32_t)to_bf16(high) << 16;
}
// Pairs of 2 VW floats, rounded as to_bf16 does it (a tier's own instruction may flush subnormals).
#ifndef PAIRS_BF16
static inline void pairs_bf16(const float* x, uint32_t* pairs) {
  uint32_t bits[2 * VW];
  for (int i = 0; i < 2; i++) {
    vi u = load_i(x + i * VW);
    vi rounded = u + 0x7fff + ((u >> 16) & 1), nan = (u & 0x7fffffff) > 0x7f800000;
    rounded = (rounded & ~nan) | ((u | 0x400000) & nan);
    __builtin_memcpy(bits + i * VW, &rounded, sizeof rounded);
  }
  for (int i = 0; i < VW; i++) pairs[i] = bits[2 * i] >> 16 | (bits[2 * i + 1] & 0xffff0000);
}
#endif
static inline float from_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  uint32_t u;
  float x;
  if (exponent == 0) {
    x = (float)mantissa * 5.9604645e-8f;
    __builtin_memcpy(&u, &x, 4);
    u |= sign;
  } else {
    u = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
  }
  __builtin_memcpy(&x, &u, 4);
  return x;
}
