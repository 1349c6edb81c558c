// fastlstm's native engine: forward and backward of recurrent layers. This header is the contract; it knows neither Python nor
// PyTorch.
//
// The alphabet: sizes T (time), N (batch), I (input), H (hidden), P (projected output; 0: none), D (directions), `out` = P or H.
// For one layer and direction, an LSTM's gates in the order i, f, g, o:
//     i, f, o = sigmoid(W x_t + R h_{t-1} + b),  g = tanh(W_g x_t + R_g h_{t-1} + b_g)
//     c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)   (then h_t = W_hr h_t where P > 0)
// and a GRU's in the order r, z, n, whose two biases stay apart in n:
//     r, z = sigmoid(W x_t + R h_{t-1} + b),  n = tanh(W_n x_t + b_in + r (R_n h_{t-1} + b_hn))
//     h_t = (1 - z) n + z h_{t-1}
//
// A call computes in one Real, float or double. Its arrays are C-contiguous, aligned as their elements are, and are read or
// written only during the call.
// Outputs must not overlap inputs or each other; but of a single layer, direction and step, `output` may be h_n. nullptr means
// what each line says.
//
// Rows: the steps of a sequence stand one after the other. A dense batch has T * N rows, row t * N + n. A packed batch (lengths
// differing, longest first) has batch_sizes[t] rows at step t, and no row for padding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fastlstm {

enum class CellKind : unsigned char { lstm, gru };

// How many of each a cell has.
struct CellCounts {
  std::int64_t gates;   // blocks of H rows in its weights
  std::int64_t states;  // that go from step to step: h and c, or h alone
  std::int64_t steps;   // arrays of what a step computes (`trace`)
};
constexpr CellCounts counts_of(CellKind cell) { return cell == CellKind::gru ? CellCounts{3, 1, 3} : CellCounts{4, 2, 5}; }

// The sizes of a call, and the cell of its layers. Build once, use for any number of calls, from any number of threads.
class Problem {
 public:
  std::int64_t T, N, I, H, P, layers, D;
  CellKind cell;

  // batch_sizes: T numbers, non-increasing, the first is N; empty: dense. Throws std::invalid_argument on sizes that make no
  // sense (P > 0 makes none for a GRU), std::runtime_error on such whose products no std::int64_t holds.
  Problem(std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers, std::int64_t D,
          const std::vector<std::int64_t>& batch_sizes = {}, CellKind cell = CellKind::lstm);

  std::int64_t out() const { return P > 0 ? P : H; }
  std::int64_t layer_input(std::int64_t layer) const { return layer == 0 ? I : D * out(); }
  std::int64_t rows() const { return offset_.back(); }
  std::int64_t row(std::int64_t t) const { return offset_[static_cast<std::size_t>(t)]; }  // the first row of step t
  std::int64_t batch(std::int64_t t) const { return row(t + 1) - row(t); }                 // how many rows step t has

  // Blocks of whole steps, about kBlockRows rows each: what is computed from one block is still in cache when it is used.
  // They depend on the sizes alone, never on the number of threads: the order of additions, so the bits, follow them.
  static constexpr std::int64_t kBlockRows = 256;
  std::int64_t blocks() const { return static_cast<std::int64_t>(block_.size()) - 1; }
  std::int64_t block(std::int64_t k) const { return block_[static_cast<std::size_t>(k)]; }  // the first step of block k

  // For long sequences: `forward` keeps the states between spans in place of the gates and cells of every step, which `backward`
  // computes again, span after span, and `trace` has nothing to read. No bit of a result or gradient changes. A span is as many
  // blocks as have so many steps (at least 1), the last one what is left; of a single span everything is kept. Before any call.
  void checkpoint_every(std::int64_t steps);
  bool checkpoints() const { return spans() > 1; }
  std::int64_t spans() const { return static_cast<std::int64_t>(span_.size()) - 1; }
  std::int64_t span(std::int64_t k) const { return span_[static_cast<std::size_t>(k)]; }  // the first block of span k

 private:
  std::vector<std::int64_t> offset_;
  std::vector<std::int64_t> block_;
  std::vector<std::int64_t> span_;
};

// Where a sequence starts anew: a byte for step t of row n at data[t * step + n * row], not 0: the state before it is zeroed.
struct Resets {
  const bool* data = nullptr;  // nullptr: nowhere
  std::int64_t step = 0;
  std::int64_t row = 0;
};

// A batch of N rows of up to T steps that is no rectangle: rows end early, or start anew midway. Its segments, the stretches that
// nothing crosses, are the sequences of a packed batch: the longest first, equals in the order of rows, then of time.
class Segments {
 public:
  // lengths: (N), or nullptr: T each. A reset past its row's end counts for nothing. Throws std::invalid_argument on a length
  // that is not from 0 to T.
  Segments(std::int64_t T, std::int64_t N, const std::int64_t* lengths, const Resets& resets);

  bool whole() const { return whole_; }          // every row is one segment of T > 0 steps: the batch is a rectangle after all
  bool empty() const { return empty_; }          // any row has no step
  std::int64_t steps() const { return steps_; }  // of all rows together: the rows of the packed batch
  std::int64_t count() const { return static_cast<std::int64_t>(segments_.size()); }
  std::int64_t N() const { return N_; }
  const std::vector<std::int64_t>& batch_sizes() const { return batch_sizes_; }

  // Where rows of the packed batch stand in the caller's arrays: the `rows` of a Source or Target.
  // (steps()): of x and output. Step t of row n is at t * step + n * row, or, given starts (N), at t * step + starts[n].
  void places(std::int64_t step, std::int64_t row, const std::int64_t* starts, std::int64_t* to) const;
  // (layers * D * count()): of h_0 and c_0; -1 where a segment starts from zeros.
  void initial(std::int64_t layers, std::int64_t D, std::int64_t* to) const;
  // (layers * D * count()): of h_n and c_n; -1 where a segment's last state is not its row's.
  void final(std::int64_t layers, std::int64_t D, std::int64_t* to) const;
  // Zeros where the rows of x or output, `width` bytes each, have no step: step t of row n is at t * step + n * row.
  void clear(std::int64_t step, std::int64_t row, std::int64_t width, void* to) const;
  // Of a state of (cells, N) rows, `width` bytes each, those of rows without a step: such a row ends in the state it began with,
  // and its gradient is that of its end. from: nullptr: zeros.
  void carry(std::int64_t cells, std::int64_t width, const void* from, void* to) const;

 private:
  struct Segment {
    std::int64_t n;
    std::int64_t start;
    std::int64_t length;
    bool from_initial;  // the first of its row, and not reset
    bool is_last;       // of its row
  };
  std::int64_t T_;
  std::int64_t N_;
  std::int64_t steps_ = 0;
  bool whole_;
  bool empty_ = false;
  std::vector<Segment> segments_;
  std::vector<std::int64_t> batch_sizes_;
};

// 16-bit numbers by their bits: the upper half of a float, and IEEE 754's binary16.
struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

enum class Element : unsigned char { real, bfloat16, float16 };

// An array that a call reads (Source) or writes (Target). Its elements are the call's Real or, where that is float, 16-bit
// numbers: widened as they are read, rounded once, to the nearest, ties to even, as they are written. Each array of a call has
// its own. Where x, h_0, output and the matrices of the weights are bfloat16, and the processor multiplies such numbers, every
// h_t is rounded before it is read again, and the gradients of the gates before they are multiplied (multiplies_bfloat16). The
// rows of x, h_0, c_0, output, h_n, c_n, of what `trace` reads and of their gradients may stand elsewhere: row k is row rows[k]
// of the array; -1: nowhere, zeros are read, nothing is written. nullptr: one after the other.
template <class Real>
struct Source {
  const void* data = nullptr;
  Element element = Element::real;
  const std::int64_t* rows = nullptr;

  Source() = default;
  Source(const Real* reals) : data(reals) {}
  Source(const void* data, Element element, const std::int64_t* rows = nullptr) : data(data), element(element), rows(rows) {}
  bool operator==(std::nullptr_t) const { return data == nullptr; }
};
template <class Real>
struct Target {
  void* data = nullptr;
  Element element = Element::real;
  const std::int64_t* rows = nullptr;

  Target() = default;
  Target(Real* reals) : data(reals) {}
  Target(void* data, Element element, const std::int64_t* rows = nullptr) : data(data), element(element), rows(rows) {}
  bool operator==(std::nullptr_t) const { return data == nullptr; }
};

// The weights of one layer and direction, as torch keeps them, of G gates. `in` is layer_input(layer).
template <class Real>
struct Weights {
  Source<Real> w_ih;  // (G * H, in)
  Source<Real> w_hh;  // (G * H, out)
  Source<Real> b_ih;  // (G * H), or nullptr: zeros
  Source<Real> b_hh;  // (G * H), or nullptr: zeros
  Source<Real> w_hr;  // (P, H) where P > 0
};

// Their gradients, each written (not added to), or nullptr: not wanted.
template <class Real>
struct WeightGradients {
  Target<Real> w_ih;
  Target<Real> w_hh;
  Target<Real> b_ih;
  Target<Real> b_hh;
  Target<Real> w_hr;
};

template <class Real>
class PackedWeights;

// c_0, c_n, dc_n and dc_0 are an LSTM's: of a GRU, whose state is h, they are nullptr.
template <class Real>
struct Inputs {
  Source<Real> x;                // (rows, I)
  Source<Real> h_0;              // (layers * D, N, out), or nullptr: zeros
  Source<Real> c_0;              // (layers * D, N, H), or nullptr: zeros
  const Weights<Real>* weights;  // layers * D of them, layer-major
  const Source<Real>* masks;     // layers - 1 of (rows, D * out): the output of a layer is multiplied by its mask on its
                                 // way to the next layer; one may be nullptr, and so may `masks`: no dropout
  const PackedWeights<Real>* packed = nullptr;  // of `weights` (packed_weights.h), for forward of arrays of Reals; or nullptr
};

template <class Real>
struct Outputs {
  Target<Real> output;  // (rows, D * out): h_t of the last layer, forward then reverse
  Target<Real> h_n;     // (layers * D, N, out): h after a row's own last step (its first step, for the reverse direction)
  Target<Real> c_n;     // (layers * D, N, H)
};

template <class Real>
struct Gradients {
  Source<Real> doutput;                   // (rows, D * out), or nullptr: zeros; likewise dh_n and dc_n
  Source<Real> dh_n;                      // (layers * D, N, out)
  Source<Real> dc_n;                      // (layers * D, N, H)
  Target<Real> dx;                        // (rows, I), written, or nullptr: not wanted; likewise dh_0 and dc_0
  Target<Real> dh_0;                      // (layers * D, N, out)
  Target<Real> dc_0;                      // (layers * D, N, H)
  const WeightGradients<Real>* dweights;  // layers * D of them
  // Those of what `trace` reads, or nullptr: zeros; likewise any array of them.
  const Source<Real>* dsteps = nullptr;   // as its `steps`
  const Source<Real>* dhidden = nullptr;  // as its `hidden`
};

// How many Reals `forward` leaves in `saved` for `backward`: linear in rows. The layout is the engine's own business; both calls
// must run on the same instruction set. With checkpoints, it is not linear in rows, but the fewer the longer spans are.
template <class Real>
std::int64_t saved_size(const Problem& problem);

// Runs the layer. `saved`: saved_size Reals, written, or nullptr at inference. `threads` >= 1: how many may work; the results are
// the same bits for any number. Denormal numbers count as zeros. Safe to call from many threads at once. Throws std::bad_alloc,
// nothing else.
template <class Real>
void forward(const Problem& problem, const Inputs<Real>& inputs, const Outputs<Real>& outputs, Real* saved, int threads);

// What a forward pass computed on its way, from `saved` as it wrote it. Each array is written, or nullptr: not wanted.
// steps: for each of layers * D, what a step computes, arrays of (rows, H) of one element and with the same `rows`, gates after
// their activations: an LSTM's c, i, f, g, o; a GRU's r, z, n. hidden: layers - 1 of (rows, D * out), the outputs of the layers
// but the last.
template <class Real>
void trace(const Problem& problem, const Real* saved, const Target<Real>* steps, const Target<Real>* hidden, int threads);

// The gradients of a scalar with respect to what went in, given those with respect to what came out. `saved` as
// forward wrote it, `output` the elements of its own: what they were is not read, and may have been changed. Only what is asked
// for is computed.
template <class Real>
void backward(const Problem& problem, const Inputs<Real>& inputs, Element output, const Real* saved,
              const Gradients<Real>& gradients, int threads);

// Memory from a bounded pool that outlives calls, 64-byte aligned, uninitialised. A fresh page costs as much as the arithmetic on
// it.
class Workspace {
 public:
  // From forward to backward; until the call ends; as long as the caller of a call holds what came out of it.
  enum class Use { kept, scratch, given };

  explicit Workspace(std::size_t bytes, Use use = Use::kept);  // throws std::bad_alloc
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
  std::size_t bytes_;
  Use use_;
};

// Whether, on the instruction set in use, a call of these sizes multiplies bfloat16 numbers as they are, where x, h_0, output and
// the matrices of the weights are such numbers: faster than in float32.
bool multiplies_bfloat16(const Problem& problem);

// What the engine decides for a call of such sizes, and how, in words: on the instruction set in use, with `threads` at most.
// element: of all arrays; rows_elsewhere: whether x and output have rows that stand elsewhere.
struct Decision {
  std::string what;
  std::string how;
};
template <class Real>
std::vector<Decision> decisions(const Problem& problem, Element element, bool training, bool rows_elsewhere, int threads);

// Instruction sets: the one in use; all that this build has and this processor runs, slowest first; force one (not while a call
// runs), as the environment variable FASTLSTM_ISA does at the start. Throws std::invalid_argument where host or build lacks it.
std::string isa();
std::vector<std::string> isas();
void use_isa(const std::string& name);

// Parallel work runs on a small pool of the engine's own, or on the caller's OpenMP runtime, so that two pools don't fight over
// the cores: give it three functions of libgomp. In a forked child, where libgomp's threads are gone, the own pool takes over.
struct OpenMP {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);  // GOMP_parallel
  int (*thread_num)();                                                                  // omp_get_thread_num
  int (*num_threads)();                                                                 // omp_get_num_threads
};
void use_openmp(const OpenMP& openmp);

// For tests: the next call takes the threads it asks for, however long ago the last team was, and however slow. Returns how many
// teams of several threads there have been.
std::int64_t let_teams_run();

}  // namespace fastlstm
