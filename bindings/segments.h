// Batches that are no rectangle: their segments.
#pragma once
#include <nanobind/nanobind.h>

void define_segments(nanobind::module_& m);
