// A call on torch tensors, without gradients, in one crossing from Python.
#pragma once
#include <nanobind/nanobind.h>

void define_infer(nanobind::module_& m);
