/*
 * Example of a frame filter plugin in C: a mosaic over the whole frame.
 *
 * Build: make, then in the processor's settings:
 *   "blur_module_path": "examples/c-filter/mosaic.so", "plugin": {"cell": 16}
 *
 * cell: side of a mosaic cell in pixels, 2 to 256, default 16.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blur_plugin.h"

struct BlurInstance {
  uint32_t cell;
  char error[160];
};

/* Why create failed on this thread. */
static _Thread_local char create_error[160];

static BlurText text(const char *words) {
  BlurText result = {words, strlen(words)};
  return result;
}

static int32_t describe(BlurInstance *instance, BlurDescription *out) {
  (void)instance;
  if (out == NULL || out->struct_size < sizeof *out) return BLUR_BAD_ARGUMENT;
  out->kind = BLUR_KIND_FILTER;
  out->format = BLUR_FORMAT_I420;
  out->name = text("mosaic");
  out->version = text("1.0");
  out->info_json = text("{}");
  return BLUR_OK;
}

/* Reads "cell" from the settings; a real plugin would use a JSON library. The
 * settings are not terminated, so they are copied first. */
static int read_cell(const BlurText *settings, uint32_t *cell) {
  char *copy = malloc(settings->len + 1);
  if (copy == NULL) return 0;
  if (settings->len > 0) memcpy(copy, settings->data, settings->len);
  copy[settings->len] = '\0';
  int good = 1;
  const char *key = strstr(copy, "\"cell\"");
  if (key != NULL) good = sscanf(key, "\"cell\" : %u", cell) == 1 && *cell >= 2 && *cell <= 256;
  free(copy);
  return good;
}

static int32_t create(const BlurCreate *create, BlurInstance **out) {
  if (create == NULL || out == NULL || create->struct_size < sizeof *create) return BLUR_BAD_ARGUMENT;
  create_error[0] = '\0';
  uint32_t cell = 16;
  if (!read_cell(&create->settings, &cell)) {
    snprintf(create_error, sizeof create_error, "cell must be a number from 2 to 256");
    return BLUR_FAILED;
  }
  BlurInstance *instance = calloc(1, sizeof *instance);
  if (instance == NULL) {
    snprintf(create_error, sizeof create_error, "out of memory");
    return BLUR_FAILED;
  }
  instance->cell = cell;
  *out = instance;
  return BLUR_OK;
}

/* Gives every cell of a plane its mean. */
static void mosaic(uint8_t *plane, uint64_t stride, uint32_t width, uint32_t height, uint32_t cell) {
  for (uint32_t top = 0; top < height; top += cell) {
    for (uint32_t left = 0; left < width; left += cell) {
      uint32_t rows = height - top < cell ? height - top : cell;
      uint32_t columns = width - left < cell ? width - left : cell;
      uint64_t sum = 0;
      for (uint32_t y = 0; y < rows; y++)
        for (uint32_t x = 0; x < columns; x++) sum += plane[(top + y) * stride + left + x];
      uint8_t mean = (uint8_t)(sum / ((uint64_t)rows * columns));
      for (uint32_t y = 0; y < rows; y++) memset(plane + (top + y) * stride + left, mean, columns);
    }
  }
}

static int32_t process(BlurInstance *instance, BlurFrame *frame, uint32_t *changed) {
  if (instance == NULL || frame == NULL || changed == NULL) return BLUR_BAD_ARGUMENT;
  instance->error[0] = '\0';
  if (frame->format != BLUR_FORMAT_I420 || frame->memory != BLUR_MEMORY_HOST) {
    snprintf(instance->error, sizeof instance->error, "pixel format %u is not I420", frame->format);
    return BLUR_UNSUPPORTED;
  }
  uint32_t half_width = frame->width / 2 + frame->width % 2;
  uint32_t half_height = frame->height / 2 + frame->height % 2;
  uint32_t half_cell = instance->cell / 2;
  mosaic(frame->planes[0], frame->strides[0], frame->width, frame->height, instance->cell);
  mosaic(frame->planes[1], frame->strides[1], half_width, half_height, half_cell);
  mosaic(frame->planes[2], frame->strides[2], half_width, half_height, half_cell);
  *changed = 1;
  return BLUR_OK;
}

/* Frames do not depend on each other here: nothing to forget. */
static int32_t reset(BlurInstance *instance, uint32_t camera) {
  (void)camera;
  return instance == NULL ? BLUR_BAD_ARGUMENT : BLUR_OK;
}

static void last_error(BlurInstance *instance, BlurText *out) {
  if (out != NULL) *out = text(instance == NULL ? create_error : instance->error);
}

static void destroy(BlurInstance *instance) { free(instance); }

BLUR_EXPORT const BlurPlugin *blur_plugin_v1(void) {
  static const BlurPlugin plugin = {
      .struct_size = sizeof(BlurPlugin),
      .abi_minor = BLUR_ABI_MINOR,
      .describe = describe,
      .create = create,
      .detect = NULL,
      .process = process,
      .reset = reset,
      .last_error = last_error,
      .destroy = destroy,
  };
  return &plugin;
}
