/* How long one step takes, beside a bare loop that reads as many bytes as the step has weights, in turn:
 *
 *   latency layer.safetensors [steps]
 */
#define _POSIX_C_SOURCE 200809L
#include <fastlstm/fastlstm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BURST = 1000 };

static double microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

static int by_size(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void report(const char* name, double* times, size_t count) {
  qsort(times, count, sizeof *times, by_size);
  const double median = times[count / 2], rare = times[count - 1 - count / 1000];
  printf("%-9s median %7.3f us, 99th %7.3f, 99.9th %7.3f, 99.9th / median %.2f\n", name, median, times[count - 1 - count / 100],
         rare, rare / median);
}

static int stop(const char* why) {
  fprintf(stderr, "%s\n", why);
  return EXIT_FAILURE;
}

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return stop("usage: latency layer.safetensors [steps]");
  const size_t count = argc == 3 ? (size_t)strtoul(argv[2], NULL, 10) / BURST * BURST : 200000;
  if (count == 0) return stop("steps: expected at least 1000");
  fastlstm_layer* layer;
  fastlstm_stream* stream;
  fastlstm_sizes s;
  if (fastlstm_layer_load(argv[1], NULL, &layer) != FASTLSTM_OK || fastlstm_layer_sizes(layer, &s) != FASTLSTM_OK ||
      fastlstm_stream_new(layer, 1, &stream) != FASTLSTM_OK)
    return stop(fastlstm_error());
  const size_t gates = s.cell == FASTLSTM_LSTM ? 4 : 3;
  size_t weights = 0;
  for (int64_t k = 0; k < s.num_layers; ++k)
    weights +=
        gates * (size_t)s.hidden_size * (size_t)((k == 0 ? s.input_size : s.out) + s.out) + (size_t)(s.proj_size * s.hidden_size);
  const size_t bytes = weights * s.number;
  void* x = calloc((size_t)s.input_size, s.number);
  void* y = calloc((size_t)s.out, s.number);
  unsigned char* bare = malloc(bytes);
  double* times[3];
  for (int k = 0; k < 3; ++k) times[k] = malloc(count * sizeof **times);
  if (x == NULL || y == NULL || bare == NULL || times[0] == NULL || times[1] == NULL || times[2] == NULL)
    return stop("out of memory");
  memset(bare, 1, bytes);
  volatile int sink = 0;
  for (size_t at = 0; at < count; at += BURST) { /* in turn */
    for (size_t k = at; k < at + BURST; ++k) {
      const double start = microseconds();
      fastlstm_step(stream, x, (size_t)s.input_size * s.number, y, (size_t)s.out * s.number);
      times[0][k] = microseconds() - start;
    }
    for (size_t k = at; k < at + BURST; ++k) {
      const double start = microseconds();
      sink += memcmp(bare, bare + bytes / 2, bytes / 2); /* two streams of equal bytes: faster than a search */
      times[1][k] = microseconds() - start;
    }
    for (size_t k = at; k < at + BURST; ++k) {
      const double start = microseconds();
      times[2][k] = microseconds() - start;
    }
  }
  printf("%s, %lld in, %lld units: %zu bytes of weights, %zu steps\n", gates == 4 ? "LSTM" : "GRU", (long long)s.input_size,
         (long long)s.hidden_size, bytes, count);
  report("step", times[0], count);
  report("bare loop", times[1], count);
  report("clock", times[2], count);
  const double clock = times[2][count / 2];
  const double step = times[0][count / 2] - clock, loop = times[1][count / 2] - clock;
  printf("without the clock: step %.3f us, loop %.3f us (%.1f GB/s): step / loop %.2f\n", step, loop, (double)bytes / loop / 1e3,
         step / loop);
  for (int k = 0; k < 3; ++k) free(times[k]);
  free(bare);
  free(y);
  free(x);
  fastlstm_stream_free(stream);
  fastlstm_layer_free(layer);
  return EXIT_SUCCESS;
}
