// What kernels fetch before they need it, and what the tiles of a GEMM take.

// Of a line into the L2 cache. GCC 12 loses a __builtin_prefetch behind a condition, so this is the
// instruction itself.
static inline void fetch_line(const uint8_t* at) {
#if defined(__x86_64__) || defined(__i386__)
  __asm__ volatile("prefetcht1 %0" ::"m"(*at));
#else
  __builtin_prefetch(at, 0, 2);
#endif
}

// The same of a line that is written soon, to be this core's own.
static inline void fetch_to_write(const void* at) {
#if defined(__x86_64__) || defined(__i386__)
  __asm__ volatile("prefetchw %0" ::"m"(*(const char*)at));
#else
  __builtin_prefetch(at, 1, 3);
#endif
}

// Fetches memory that is needed soon into the L2 cache, some lines per run of 32 along K: as many
// each time until all are there, so that its branches can be foretold.
struct Ahead {
  const uint8_t *at = nullptr, *until = nullptr;
  int64_t lines = 0;
  inline void fetch() {
    if (at >= until) return;
    for (int64_t i = 0; i < lines; i++, at += 64) fetch_line(at);
  }
};

// Of a row panel and a column panel: see PackedRows and packing.py.
struct Int8Operands {
  const uint8_t* b;
  const uint32_t* a;
  const float* scales;
  const int32_t* offsets;
  int64_t runs, group_runs;
  // Columns in bf16 beside the codes: pairs of them.
  const uint8_t* beside_b;
  const uint32_t* beside_a;
  int64_t beside;
};
