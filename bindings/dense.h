// Forward and backward on torch tensors that are dense in memory, in one crossing from Python each.
#pragma once
#include <nanobind/nanobind.h>

void define_dense(nanobind::module_& m);
