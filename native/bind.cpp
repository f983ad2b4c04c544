// The Python door to the native core. Converts arguments and releases the GIL; decides nothing.
// Pointers come as integers: kernels/ops.py owns that memory and keeps it alive.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#include <stdexcept>
#include <string>

#include "executor.h"
#include "probe.h"

namespace nb = nanobind;
using namespace sixfold;

namespace {

template <class T> using Vec = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T> using Mat = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

const Kernels* find_tier(const std::string& name) {
  for (const Kernels* k : available_tiers())
    if (name == k->name) return k;
  throw std::invalid_argument("this CPU or build has no ISA tier " + name);
}

struct Model {
  Executor executor;
  Model(const std::string& isa, int threads, int64_t max_tokens)
      : executor(find_tier(isa), threads, max_tokens, 0) {}

  void set_ops(Mat<const int64_t> ints, Mat<const double> doubles) {
    std::vector<Op> ops;
    for (size_t i = 0; i < ints.shape(0); i++) {
      const int64_t* v = ints.data() + i * ints.shape(1);
      const double* d = doubles.data() + i * doubles.shape(1);
      ops.push_back({v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13], d[0], d[1]});
    }
    executor.set_ops(ops.data(), (int64_t)ops.size());
  }
  void add_weight(int format, bool asym, int group_runs, int64_t n, int64_t k, uintptr_t data, int64_t panel_bytes, uintptr_t bias, int64_t outliers,
                  uintptr_t outlier_columns, uintptr_t outlier_data) {
    executor.add_weight({format, asym, group_runs, n, k, (k + kRun - 1) / kRun * kRun, (n + kPanel - 1) / kPanel, panel_bytes,
                         (const uint8_t*)data, (const float*)bias, outliers, (const int32_t*)outlier_columns,
                         (const uint8_t*)outlier_data});
  }
  void set_kv(int64_t group, uintptr_t arena, int64_t block_bytes, int64_t layer_bytes, int64_t page_bytes, int64_t num_blocks,
              int format, uintptr_t table, int64_t table_width) {
    executor.set_kv(group, {(uint8_t*)arena, block_bytes, layer_bytes, page_bytes, num_blocks, (const int32_t*)table, table_width, format});
  }
  void forward(Vec<int32_t> ids, Vec<int32_t> positions, Vec<int32_t> query_start, Vec<int32_t> slots, int64_t begin, int64_t end) {
    Step step = {(int64_t)ids.shape(0), (int64_t)slots.shape(0), ids.data(), positions.data(), query_start.data(), slots.data()};
    if (positions.shape(0) != ids.shape(0) || query_start.shape(0) != slots.shape(0) + 1)
      throw std::invalid_argument("step arrays disagree in length");
    nb::gil_scoped_release release;
    executor.forward(step, begin, end);
  }
  void logits(Vec<int32_t> rows, Mat<float> out) {
    nb::gil_scoped_release release;
    executor.logits(rows.data(), (int64_t)rows.shape(0), out.data(), (int64_t)out.shape(1));
  }
  // params and results are arrays of the C structs of sampler.h, as bytes (kernels/ops.py has the dtypes).
  void sample(Vec<int32_t> rows, Vec<int32_t> targets, Mat<const uint8_t> params, Mat<uint8_t> results, int64_t vocab) {
    if (params.shape(1) != sizeof(SixfoldSampleParams) || results.shape(1) != sizeof(SixfoldSampleResult) ||
        params.shape(0) != rows.shape(0) || results.shape(0) != rows.shape(0) || targets.shape(0) != rows.shape(0))
      throw std::invalid_argument("sampling arrays disagree with the native structs");
    nb::gil_scoped_release release;
    executor.sample(rows.data(), targets.data(), (const SixfoldSampleParams*)params.data(), (int64_t)rows.shape(0), vocab,
                    (SixfoldSampleResult*)results.data());
  }
  nb::ndarray<nb::numpy, float, nb::ndim<2>> buffer(int64_t i, int64_t rows) {
    return {executor.buffer(i), {(size_t)rows, (size_t)executor.width(i)}, nb::handle(), {executor.stride(i), 1}};
  }
};

std::vector<std::string> tiers() {
  std::vector<std::string> names;
  for (const Kernels* k : available_tiers()) names.push_back(k->name);
  return names;
}

} // namespace

NB_MODULE(_native, m) {
  m.doc() = "sixfold's native core: see kernels/ops.py, the only module that may import it.";
  m.def("tiers", &tiers, "ISA tiers that this CPU runs, best last.");
  m.def("probe_limits", [](const std::string& isa, int threads, double seconds) {
    Limits limits;
    {
      nb::gil_scoped_release release;
      limits = probe_limits(find_tier(isa), threads, seconds);
    }
    nb::dict d;
    d["read_gb_s"] = limits.read_gb_s;
    d["f32_gflop_s"] = limits.f32_gflop_s;
    d["bf16_gflop_s"] = limits.bf16_gflop_s;
    d["int8_gop_s"] = limits.int8_gop_s;
    return d;
  });
  m.def(
      "populate",
      [](uintptr_t address, size_t bytes) {
#if defined(__linux__)
        constexpr int kPopulateWrite = 23; // MADV_POPULATE_WRITE, Linux 5.14
        return madvise((void*)address, bytes, kPopulateWrite) == 0;
#else
        return false;
#endif
      },
      nb::call_guard<nb::gil_scoped_release>(), "Takes pages without changing them; false where the system can't.");
  nb::class_<LimitProbe>(m, "LimitProbe")
      .def("__init__", [](LimitProbe* self, const std::string& isa, int threads) { new (self) LimitProbe(find_tier(isa), threads); })
      .def("read", &LimitProbe::read, nb::call_guard<nb::gil_scoped_release>())
      .def("arithmetic", &LimitProbe::arithmetic, nb::call_guard<nb::gil_scoped_release>());
  m.attr("SAMPLE_PARAMS_BYTES") = sizeof(SixfoldSampleParams);
  m.attr("SAMPLE_RESULT_BYTES") = sizeof(SixfoldSampleResult);
  nb::class_<Model>(m, "Model")
      .def(nb::init<const std::string&, int, int64_t>())
      .def("set_ops", &Model::set_ops)
      .def("add_weight", &Model::add_weight)
      .def("add_vector", [](Model& s, uintptr_t p) { s.executor.add_vector((const float*)p); })
      .def("add_buffer", [](Model& s, int64_t width) { s.executor.add_buffer(width); })
      .def("set_head", [](Model& s, int64_t in, int64_t weight, int64_t norm, double eps) { s.executor.set_head({in, weight, norm, eps}); })
      .def("set_kv", &Model::set_kv)
      .def("set_key_frames", [](Model& s, int64_t op, uintptr_t p) { s.executor.set_key_frames(op, (const float*)p); })
      .def("prepare", [](Model& s) { s.executor.prepare(); })
      .def("set_tuning", [](Model& s, int64_t chunks, int64_t distance) { s.executor.set_tuning({chunks, distance}); })
      .def("set_naive_attention", [](Model& s, bool naive) { s.executor.set_naive_attention(naive); })
      .def("observe_inputs", [](Model& s) { s.executor.observe_inputs(); })
      .def("input_sizes", [](Model& s, int64_t weight) { return s.executor.input_sizes(weight); })
      .def("forward", &Model::forward)
      .def("logits", &Model::logits)
      .def("sample", &Model::sample)
      .def("stacked", [](Model& s) { return s.executor.stacked(); })
      .def("seconds", [](Model& s) {
        const auto found = s.executor.pool().seconds();
        return std::vector<double>(found.begin(), found.end());
      })
      .def("buffer", &Model::buffer, nb::rv_policy::reference_internal);
}
