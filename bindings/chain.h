// The class `Chain` of the module.
#pragma once
#include <nanobind/nanobind.h>

void define_chain(nanobind::module_& m);
