// Who computes what: a pure function of the sizes, the number of threads and the caches.
#pragma once
#include <cstdint>

#include "fastlstm/engine.h"

namespace fastlstm {

struct Plan {
  bool by_direction;  // half of the threads for each direction; in each half (or in the one team):
  bool by_unit;       // every thread has its own hidden units (one barrier a step); else its own rows (none at all)
  bool project;       // the input projection of a whole block of steps goes ahead of the recurrence; else it is part of each step
  bool tiled;         // it does, on matrix tiles: this must not depend on N, since a row's bits depend on it
};

// Where a plan is carried out.
struct Machine {
  std::int64_t weight_bytes;  // of one number, packed
  double products;            // that a processor adds up in the time of a fused multiply-add, lane by lane
  bool has_tiles;             // the instruction set, for this Real
  std::int64_t l2_bytes;      // of a core
};
std::int64_t l2_bytes();  // this machine's; where the system doesn't tell, 512 KiB

// `in`: the layer's input size; `threads`: of the team.
Plan plan_layer(const Problem& problem, std::int64_t in, int threads, const Machine& machine);

// Inputs and hidden sizes from which tiles pay: at 128, splitting numbers into parts takes what the products save.
inline constexpr std::int64_t kTiledSize = 256;
inline constexpr std::int64_t kTiledRows = 16;  // of a tile: as many cost what one does

// Whether the products of a call of such sizes may be of pairs of bfloat16 numbers, where what it multiplies are such numbers
// anyway: all but the hidden states, of which the caller gets such numbers too, and the gradients of the gates. Those are rounded
// for it. Against float64, gradients are then off by 0.25% of their norm (float32's, rounded to bfloat16: 0.17%; nn.LSTM's:
// 0.4%). Few units leave little to average: up to 1.7% at two. Not a single step: it waits for its weights, not for products.
bool fits_pairs(const Problem& problem);
inline constexpr std::int64_t kPairedSize = 32;
// Whether they are.
bool all_bfloat16(const Problem& problem, const Inputs<float>& inputs, Element output);

// A call's work on one thread: microseconds of its products, by what the small sizes reach, where it matters; or of a single
// step's wait for the weights of a layer: two threads took (1, 1, 256, 256) from 27 us to 20, called again at once or after 5 ms,
// but three layers of (1, 1, 40, 128) from 26 to 40.
double work_microseconds(const Problem& problem, bool training, const Machine& machine);

// How many threads a call is worth.
int useful_threads(const Problem& problem, int threads, bool training, const Machine& machine);

// The rows [first, last) of the batch that thread `rank` of `size` takes of the steps [t0, t1), with nearly equal work: in a
// packed batch the first rows are the longest.
struct Range {
  std::int64_t first;
  std::int64_t last;
};
Range share(std::int64_t count, int rank, int size);
Range share_rows(const Problem& problem, std::int64_t t0, std::int64_t t1, int rank, int size);

}  // namespace fastlstm
