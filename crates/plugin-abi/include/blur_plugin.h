/*
 * The plugin interface of the blur processor, version 1.
 *
 * A plugin is a shared library with one exported symbol, blur_plugin_v1. It
 * returns a table of functions that lives as long as the process: libraries
 * are never unloaded. The major version is in the symbol's name; within a
 * major version structs only grow at their end, and struct_size says how much
 * of one exists. Whoever reads a struct reads no field beyond struct_size.
 *
 * Two kinds of plugin:
 *   detector  says where the heads are; the host tracks, masks and encodes.
 *             It gets a picture the host has scaled down for it.
 *   filter    changes the frame itself, in place.
 *
 * Memory: whoever allocates frees. Frames, their planes and the settings are
 * the host's and are valid only during the call. Texts, regions and error
 * messages are the plugin's; the header says how long each stays valid.
 *
 * Threads: calls on one instance never overlap, but may come from different
 * threads, one after the other. Calls on different instances may run at the
 * same time. blur_plugin_v1, describe(NULL, ...) and create may be called from
 * any thread at any time. A plugin that cannot have two instances in one
 * process says so with BLUR_FLAG_SINGLE_INSTANCE.
 *
 * Errors: a function returns BLUR_OK or another status; then last_error says
 * why in words for a person. No exception, panic or longjmp may leave the
 * plugin. The host trusts nothing that comes back: wild numbers are errors.
 */
#ifndef BLUR_PLUGIN_H
#define BLUR_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BLUR_ABI_MAJOR 1
#define BLUR_ABI_MINOR 1

#if defined(_WIN32)
#define BLUR_EXPORT __declspec(dllexport)
#else
#define BLUR_EXPORT __attribute__((visibility("default")))
#endif

/* Status of a call. Any other value counts as BLUR_BROKEN. */
#define BLUR_OK 0
#define BLUR_FAILED 1      /* this call failed; the instance can still be used */
#define BLUR_BAD_ARGUMENT 2 /* the host handed over something invalid */
#define BLUR_UNSUPPORTED 3 /* not this plugin's kind, format or memory */
#define BLUR_BROKEN 4      /* the instance must be destroyed */

/* Kinds of plugin. */
#define BLUR_KIND_UNDECIDED 0 /* only before create: depends on the settings */
#define BLUR_KIND_DETECTOR 1
#define BLUR_KIND_FILTER 2

/* Pixel formats, 8 bits a sample. */
#define BLUR_FORMAT_ANY 0   /* only as a wish in BlurDescription */
#define BLUR_FORMAT_I420 1  /* planes Y, U, V; chroma halved both ways, rounded up */
#define BLUR_FORMAT_NV12 2  /* planes Y, interleaved UV */
#define BLUR_FORMAT_BGR24 3 /* one plane, B G R */

/* Where the planes lie. */
#define BLUR_MEMORY_HOST 1

/* Frame flag, for detectors: a glance will do, since pictures close before and
 * after it get a thorough look. May be ignored. */
#define BLUR_FRAME_GLANCE 1u

/* What a region shows. */
#define BLUR_REGION_HEAD 1
#define BLUR_REGION_FACE 2   /* the face only; the host grows it to a head */
#define BLUR_REGION_PERSON 3 /* a whole body */
#define BLUR_REGION_OTHER 4  /* to be masked as it is */

#define BLUR_FLAG_SINGLE_INSTANCE 1u
/* Detectors: scores are on the host's scale. A region below BLUR_SCORE_FOUND is
 * a hint, which keeps the mask of somebody who is followed and begins none.
 * Without this flag every region is masked, whatever its score. */
#define BLUR_FLAG_HINTS 2u
#define BLUR_SCORE_FOUND 0.25f

/* UTF-8, not terminated; data may be NULL when len is 0. */
typedef struct BlurText {
  const char *data;
  uint64_t len;
} BlurText;

typedef struct BlurDescription {
  uint32_t struct_size; /* set by the host; the plugin writes no further */
  uint32_t kind;
  uint32_t format;      /* wanted pixel format, or BLUR_FORMAT_ANY */
  uint32_t max_width;   /* detectors: the host scales the picture, keeping its */
  uint32_t max_height;  /* shape, to fit; 0 = full size. Filters: always 0 */
  uint32_t flags;
  BlurText name;        /* texts are valid as long as the instance, or for */
  BlurText version;     /* ever when describe was called with NULL */
  BlurText info_json;   /* JSON object for receipts, e.g. models and hashes */
} BlurDescription;

typedef struct BlurCreate {
  uint32_t struct_size;
  uint32_t cameras;  /* frames come from cameras 0 .. cameras-1 */
  BlurText settings; /* JSON object, valid during create only */
} BlurCreate;

typedef struct BlurFrame {
  uint32_t struct_size;
  uint32_t format;        /* one of BLUR_FORMAT_*, never ANY */
  uint32_t memory;        /* BLUR_MEMORY_HOST */
  uint32_t width;         /* of this picture, pixels */
  uint32_t height;
  uint32_t source_width;  /* of the video it was scaled from, pixels */
  uint32_t source_height;
  uint32_t camera;
  uint64_t index;         /* frame number in its segment, from 0 */
  int64_t pts_ns;         /* presentation time in the segment, nanoseconds */
  uint8_t *planes[4];     /* unused ones are NULL */
  uint64_t strides[4];    /* bytes from row to row, never less than a row */
  uint32_t flags;         /* any of BLUR_FRAME_*; since minor version 1 */
  uint32_t reserved;      /* 0 */
} BlurFrame;

typedef struct BlurRegion {
  float x; /* left, top, width, height in pixels of the picture handed over */
  float y;
  float width;
  float height;
  float score;    /* 0..1; see BLUR_FLAG_HINTS */
  uint32_t kind;  /* one of BLUR_REGION_* */
  uint64_t track; /* the plugin's own track number, 0 = none */
} BlurRegion;

typedef struct BlurInstance BlurInstance;

typedef struct BlurPlugin {
  uint32_t struct_size;
  uint32_t abi_minor;

  /* Describes the plugin (instance NULL: name and version at least) or an
   * instance (everything). The host fills struct_size and zeroes the rest. */
  int32_t (*describe)(BlurInstance *instance, BlurDescription *out);

  /* Makes an instance. On failure *out stays NULL and last_error(NULL) on the
   * same thread says why. Slow work (loading a model) belongs here. */
  int32_t (*create)(const BlurCreate *create, BlurInstance **out);

  /* Detectors: writes the address and number of the regions found. They stay
   * valid until the next call on this instance. Planes must not be changed.
   * NULL for plugins that are never detectors. */
  int32_t (*detect)(BlurInstance *instance, const BlurFrame *frame,
                    const BlurRegion **regions, uint64_t *count);

  /* Filters: changes the planes in place; *changed = 0 only if not one byte
   * was changed. Struct and strides must not be changed.
   * NULL for plugins that are never filters. */
  int32_t (*process)(BlurInstance *instance, BlurFrame *frame,
                     uint32_t *changed);

  /* The next frame of this camera does not follow the last one: forget. */
  int32_t (*reset)(BlurInstance *instance, uint32_t camera);

  /* Why the last call failed; valid until the next call on the instance (or,
   * for NULL, the next call on this thread). Empty if nothing failed. */
  void (*last_error)(BlurInstance *instance, BlurText *out);

  /* Ends an instance; NULL is allowed. */
  void (*destroy)(BlurInstance *instance);
} BlurPlugin;

/* The one exported symbol. Must not return NULL. */
BLUR_EXPORT const BlurPlugin *blur_plugin_v1(void);

#ifdef __cplusplus
}
#endif
#endif
