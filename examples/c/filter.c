/* Filters a raw audio file (float samples, one channel) through a trained layer, 64 samples at a time, as a plug-in would:
 *
 *   filter layer.safetensors in.f32 out.f32
 *
 * The layer takes one number a sample and gives one: torch.nn.LSTM(1, 24, proj_size=1), say (train.py makes one). */
#include <fastlstm/fastlstm.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 64 };

static int stop(const char* why) {
  fprintf(stderr, "%s\n", why);
  return EXIT_FAILURE;
}

int main(int argc, char** argv) {
  if (argc != 4) return stop("usage: filter layer.safetensors in.f32 out.f32");

  fastlstm_layer* layer;
  if (fastlstm_layer_load(argv[1], NULL, &layer) != FASTLSTM_OK) return stop(fastlstm_error());
  fastlstm_sizes sizes;
  fastlstm_layer_sizes(layer, &sizes);
  if (sizes.input_size != 1 || sizes.out != 1 || sizes.number != sizeof(float))
    return stop("expected a layer of one number in, one number out, in float32");
  fastlstm_stream* stream;
  if (fastlstm_stream_new(layer, 1, &stream) != FASTLSTM_OK) return stop(fastlstm_error());
  fastlstm_layer_free(layer); /* the stream holds what it needs */

  FILE* in = fopen(argv[2], "rb");
  FILE* out = fopen(argv[3], "wb");
  if (in == NULL || out == NULL) return stop("a file can't be opened");
  float x[BLOCK], y[BLOCK];
  size_t count, all = 0;
  while ((count = fread(x, sizeof *x, BLOCK, in)) > 0) {
    /* Real-time safe: no allocation, no lock, no system call. */
    if (fastlstm_block(stream, x, count * sizeof *x, y, count * sizeof *y) != FASTLSTM_OK) return stop(fastlstm_error());
    if (fwrite(y, sizeof *y, count, out) != count) return stop("the result can't be written");
    all += count;
  }
  if (ferror(in) || fclose(out) != 0) return stop("a file can't be read or written to its end");
  fclose(in);
  fastlstm_stream_free(stream);
  printf("%zu samples\n", all);
  return EXIT_SUCCESS;
}
