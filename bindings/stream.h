// `_engine.Stream`.
#pragma once
#include <nanobind/nanobind.h>

void define_stream(nanobind::module_& m);
