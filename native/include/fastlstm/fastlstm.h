/* fastlstm in C: a trained LSTM or GRU, whole sequences or a frame at a time. This header is the contract.
 *
 * Letters: L steps of a sequence, N sequences side by side, I = input_size, H = hidden_size, P = proj_size (0: none),
 * D = directions, out = P or H. Arrays are dense, in C's order, of the layer's numbers: float, or double where the file has
 * float64. Each comes with its size in bytes, `sizeof array`, which is checked: nothing is read or written past it.
 *
 * Every function that can fail returns a status, and fastlstm_error() has a text for the last that was not FASTLSTM_OK. Then
 * nothing was done. NULL is refused where a line does not allow it. No exception crosses this border. Objects may be freed in any
 * order; to free NULL does nothing.
 */
#ifndef FASTLSTM_FASTLSTM_H
#define FASTLSTM_FASTLSTM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(FASTLSTM_BUILDING)
#define FASTLSTM_API __declspec(dllexport)
#elif defined(_WIN32)
#define FASTLSTM_API
#else
#define FASTLSTM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fastlstm_status {
  FASTLSTM_OK = 0,
  FASTLSTM_ARGUMENT = 1, /* an argument is not as it must be */
  FASTLSTM_FILE = 2,     /* the file can't be read, is no safetensors file, or has no such layer */
  FASTLSTM_MEMORY = 3    /* the system has no more */
} fastlstm_status;

/* What was wrong with the last call of this thread that failed; "" before there was one. Valid until the next that fails. */
FASTLSTM_API const char* fastlstm_error(void);

/* "0.1.0" */
FASTLSTM_API const char* fastlstm_version(void);

/* A trained layer. Nothing changes it: any number of threads and streams may use it at once. */
typedef struct fastlstm_layer fastlstm_layer;

typedef enum fastlstm_cell { FASTLSTM_LSTM = 0, FASTLSTM_GRU = 1 } fastlstm_cell;

typedef struct fastlstm_sizes {
  fastlstm_cell cell;
  int64_t input_size;  /* I */
  int64_t hidden_size; /* H */
  int64_t proj_size;   /* P; 0: none */
  int64_t num_layers;
  int64_t directions; /* D: 2 where it is bidirectional */
  int64_t out;        /* P or H */
  size_t number;      /* bytes of a number: sizeof(float) or sizeof(double) */
} fastlstm_sizes;

/* From a safetensors file: one of fastlstm.save, or any that has torch's names (weight_ih_l0, .., or a cell's weight_ih, ..).
 * path: in UTF-8, on Windows too. prefix: of the names, where they are a whole model's: "encoder."; NULL is "". float16 and
 * bfloat16 are widened to float. Nothing in a file is executed, and no size in it is believed: memory is taken for what it really
 * has. */
FASTLSTM_API fastlstm_status fastlstm_layer_load(const char* path, const char* prefix, fastlstm_layer** layer);

/* From the bytes of such a file, which may be freed afterwards. */
FASTLSTM_API fastlstm_status fastlstm_layer_read(const void* file, size_t bytes, const char* prefix, fastlstm_layer** layer);

FASTLSTM_API fastlstm_status fastlstm_layer_sizes(const fastlstm_layer* layer, fastlstm_sizes* sizes);

FASTLSTM_API void fastlstm_layer_free(fastlstm_layer* layer);

/* An array that a call reads, and one that it writes. NULL data, 0 bytes: none. */
typedef struct fastlstm_in {
  const void* data;
  size_t bytes;
} fastlstm_in;
typedef struct fastlstm_out {
  void* data;
  size_t bytes;
} fastlstm_out;

/* Whole sequences. Set it to zeros first: `fastlstm_call call = {0}`. */
typedef struct fastlstm_call {
  int64_t length; /* L, at least 1 */
  int64_t batch;  /* N, at least 1 */
  int threads;    /* how many may work, at least 1; the results are the same bits for any number */
  fastlstm_in x;  /* (L, N, I) */

  fastlstm_in h_0;     /* (num_layers * D, N, out), or none: zeros */
  fastlstm_in c_0;     /* (num_layers * D, N, H), or none: zeros; none for a GRU */
  fastlstm_in lengths; /* int64_t (N), or none: sequence n is its first lengths[n] steps, from 0 to L; then output is 0 */
  fastlstm_in reset;   /* bytes (L, N), or none: not 0: the state before this step is zeros, in every layer */

  fastlstm_out output; /* (L, N, D * out); h of the last layer at each step */
  fastlstm_out h_n;    /* as h_0, or none: not wanted; the states after a sequence's own last step */
  fastlstm_out c_n;    /* as c_0, or none: not wanted; none for a GRU */
} fastlstm_call;

/* What is written must not overlap what is read. */
FASTLSTM_API fastlstm_status fastlstm_run(const fastlstm_layer* layer, const fastlstm_call* call);

/* A layer frame by frame: N sequences side by side, whose states stay. One thread at a time; many streams of a layer may run in
 * many threads. It outlives its layer's fastlstm_layer_free. */
typedef struct fastlstm_stream fastlstm_stream;

/* From zero states. FASTLSTM_ARGUMENT: the layer is bidirectional: its reverse direction begins at the last step. */
FASTLSTM_API fastlstm_status fastlstm_stream_new(const fastlstm_layer* layer, int64_t batch, fastlstm_stream** stream);

FASTLSTM_API void fastlstm_stream_free(fastlstm_stream* stream);

/* Another stream of the same layer, in the same state. */
FASTLSTM_API fastlstm_status fastlstm_stream_copy(const fastlstm_stream* stream, fastlstm_stream** copy);

/* One step: x (N, I) -> y (N, out). Real-time safe, as are the next two: no allocation, no lock, no system call; denormal numbers
 * count as zeros. */
FASTLSTM_API fastlstm_status fastlstm_step(fastlstm_stream* stream, const void* x, size_t x_bytes, void* y, size_t y_bytes);

/* x (L, N, I) -> y (L, N, out), L as x_bytes has it. In whatever pieces a sequence comes, its output has the bits of one
 * fastlstm_run (but of a run of a single step, which adds up in an order of its own). */
FASTLSTM_API fastlstm_status fastlstm_block(fastlstm_stream* stream, const void* x, size_t x_bytes, void* y, size_t y_bytes);

/* Sequence `row`, or with -1 all, from zero states again. */
FASTLSTM_API fastlstm_status fastlstm_reset(fastlstm_stream* stream, int64_t row);

/* h (num_layers, N, out) and c (num_layers, N, H); of a GRU c is NULL and 0 bytes. */
FASTLSTM_API fastlstm_status fastlstm_get_state(const fastlstm_stream* stream, void* h, size_t h_bytes, void* c, size_t c_bytes);
FASTLSTM_API fastlstm_status fastlstm_set_state(fastlstm_stream* stream, const void* h, size_t h_bytes, const void* c,
                                                size_t c_bytes);

#ifdef __cplusplus
}
#endif

#endif
