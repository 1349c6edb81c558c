// The engine's calls, each in one crossing from Python: forward, backward and trace.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>
#include <optional>

#include "batch.h"
#include "fastlstm/engine.h"
#include "layer.h"

// What forward leaves for backward, and where.
struct Kept {
  Layer layer;
  std::unique_ptr<Batch> batch;
  const arrays::DType* dtype;
  std::optional<fastlstm::Workspace> memory;  // the engine's own, or
  nanobind::object array;                     // the caller's
  void* data = nullptr;
};

void define_call(nanobind::module_& m);
