// Forward and backward of a dense batch on torch tensors, in one crossing from Python each.
#pragma once
#include <nanobind/nanobind.h>

void define_dense(nanobind::module_& m);
