#include "segments.h"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>

#include "fastlstm/engine.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Address = std::uintptr_t;
using Index = std::int64_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

void define_segments(nb::module_& m) {
  using fastlstm::Segments;
  nb::class_<Segments>(m, "Segments")
      .def(
          "__init__",
          [](Segments* self, Index T, Index N, Address lengths, Address reset, Index step, Index row) {
            new (self) Segments(T, N, at<const Index>(lengths), {at<const bool>(reset), step, row});
          },
          "T"_a, "N"_a, "lengths"_a, "reset"_a, "step"_a, "row"_a)
      .def_prop_ro("whole", &Segments::whole)
      .def_prop_ro("empty", &Segments::empty)
      .def_prop_ro("steps", &Segments::steps)
      .def_prop_ro("count", &Segments::count)
      .def_prop_ro("T", [](const Segments& s) { return s.batch_sizes().size(); })
      .def(
          "batch_sizes",
          [](const Segments& s, Address to) { std::copy(s.batch_sizes().begin(), s.batch_sizes().end(), at<Index>(to)); }, "to"_a)
      .def(
          "places",
          [](const Segments& s, Index step, Index row, Address starts, Address to) {
            s.places(step, row, at<const Index>(starts), at<Index>(to));
          },
          "step"_a, "row"_a, "starts"_a, "to"_a)
      .def(
          "initial", [](const Segments& s, Index layers, Index D, Address to) { s.initial(layers, D, at<Index>(to)); },
          "layers"_a, "directions"_a, "to"_a)
      .def(
          "final", [](const Segments& s, Index layers, Index D, Address to) { s.final(layers, D, at<Index>(to)); }, "layers"_a,
          "directions"_a, "to"_a);
}
