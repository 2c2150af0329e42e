/* A plugin that breaks the interface in one way, chosen by a macro. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "blur_plugin.h"

/* The numbers that plugin-abi/src/raw.rs asserts of the Rust side. */
_Static_assert(sizeof(BlurText) == 16, "BlurText");
_Static_assert(sizeof(BlurDescription) == 72 && offsetof(BlurDescription, name) == 24, "BlurDescription");
_Static_assert(offsetof(BlurDescription, info_json) == 56, "BlurDescription");
_Static_assert(sizeof(BlurCreate) == 24 && offsetof(BlurCreate, settings) == 8, "BlurCreate");
_Static_assert(sizeof(BlurFrame) == 120 && offsetof(BlurFrame, index) == 32, "BlurFrame");
_Static_assert(offsetof(BlurFrame, flags) == 112, "BlurFrame of version 1.0");
_Static_assert(offsetof(BlurFrame, planes) == 48 && offsetof(BlurFrame, strides) == 80, "BlurFrame");
_Static_assert(sizeof(BlurRegion) == 32 && offsetof(BlurRegion, track) == 24, "BlurRegion");
_Static_assert(sizeof(BlurPlugin) == 64 && offsetof(BlurPlugin, describe) == 8, "BlurPlugin");
_Static_assert(offsetof(BlurPlugin, detect) == 24 && offsetof(BlurPlugin, destroy) == 56, "BlurPlugin");

struct BlurInstance {
  int calls;
};

static BlurInstance the_instance;

static BlurText text(const char *words) {
  BlurText result = {words, strlen(words)};
  return result;
}

static int32_t describe(BlurInstance *instance, BlurDescription *out) {
  out->kind = BLUR_KIND_DETECTOR;
  out->name = text("misbehaving");
  (void)instance;
#ifdef NO_NAME
  out->name = text("  ");
#elif defined STRANGE_KIND
  out->kind = 17;
#elif defined STRANGE_FORMAT
  out->format = 17;
#elif defined HALF_A_SIZE
  out->max_width = 640;
#elif defined DESCRIBE_FAILS
  return BLUR_FAILED;
#elif defined UNDECIDED
  out->kind = BLUR_KIND_UNDECIDED;
#elif defined KIND_WITHOUT_FUNCTION
  out->kind = BLUR_KIND_FILTER;
#elif defined SINGLE
  out->flags = BLUR_FLAG_SINGLE_INSTANCE;
#endif
  return BLUR_OK;
}

static int32_t create(const BlurCreate *create, BlurInstance **out) {
  (void)create;
#ifdef NO_INSTANCE
  *out = NULL;
#elif defined CREATE_FAILS_SILENTLY
  return BLUR_FAILED;
#else
  *out = &the_instance;
#endif
  return BLUR_OK;
}

static int32_t detect(BlurInstance *instance, const BlurFrame *frame, const BlurRegion **regions, uint64_t *count) {
  static BlurRegion region = {1, 1, 4, 4, 0.5f, BLUR_REGION_HEAD, 0};
  (void)frame;
  instance->calls++;
  *regions = &region;
  *count = 1;
#ifdef NOT_A_NUMBER
  region.x = NAN;
#elif defined TOO_MANY
  *count = 1000000000000u;
#elif defined NULL_REGIONS
  *regions = NULL;
#elif defined SKEWED_REGIONS
  *regions = (const BlurRegion *)((const char *)&region + 1);
#elif defined STRANGE_REGION
  region.kind = 0;
#elif defined STRANGE_STATUS
  return -77;
#elif defined FAILS_ONCE
  if (instance->calls == 1) return BLUR_FAILED;
#endif
  return BLUR_OK;
}

static int32_t reset(BlurInstance *instance, uint32_t camera) {
  (void)instance;
  (void)camera;
  return BLUR_OK;
}

static void last_error(BlurInstance *instance, BlurText *out) {
  (void)instance;
#ifdef FAILS_ONCE
  *out = text("out of luck");
#else
  out->data = NULL;
  out->len = 0;
#endif
}

static void destroy(BlurInstance *instance) { (void)instance; }

#ifdef OTHER_VERSION
BLUR_EXPORT const void *blur_plugin_v2(void) { return NULL; }
const void *use[] = {describe, create, detect, reset, last_error, destroy};
#elif defined NO_ENTRY
const void *use[] = {describe, create, detect, reset, last_error, destroy};
#else
BLUR_EXPORT const BlurPlugin *blur_plugin_v1(void) {
  static BlurPlugin plugin = {sizeof(BlurPlugin), 0, describe, create, detect, NULL, reset, last_error, destroy};
#ifdef NO_TABLE
  return NULL;
#elif defined SMALL_TABLE
  plugin.struct_size = 16;
#elif defined LATER_MINOR
  plugin.struct_size = sizeof(BlurPlugin) + 8;
  plugin.abi_minor = 3;
#elif defined NO_DESTROY
  plugin.destroy = NULL;
#elif defined NEITHER
  plugin.detect = NULL;
#endif
  return &plugin;
}
#endif
