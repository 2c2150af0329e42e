/*
 * A plugin for tests. Settings (all optional, numbers):
 *   filter      1: a frame filter that paints the top of the picture grey;
 *               otherwise a detector that reports the top fifth of the picture
 *   from, to    frames on which it sees or paints something (default: all)
 *   crash_at, hang_at, fail_at, garbage_at, leak_at   misbehave from that frame on
 *   leak_mb     MiB that leak_at loses on each frame (default 64)
 *   sleep_ms    time per frame
 *   top         percent of the height above the box it reports (default 0)
 *   face        1: the box is a face, not a head
 *   percent     its score (default 90)
 *   left        percent of the width beside the box, on both sides (default 0)
 *   camera      it sees or paints something on this camera only (default: on all)
 *   lie         1: a filter says that it changed nothing
 *   late        it sees nothing until it was reset so many times
 *   glances     1: it fails when it is asked for a glance where a thorough look is due, or never for one
 *   escape      1: it tries to get at what a worker has no business with, and fails with the names of what it got
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blur_plugin.h"

struct BlurInstance {
  long percent, filter, from, to, crash_at, hang_at, fail_at, garbage_at, leak_at, sleep_ms, leak_mb, face, top, left, camera, lie, escape, late, resets, glances, newest, glanced, glances_seen;
  uint32_t cameras;
  BlurRegion region;
  const char *error;
  char got[300];
};

static long number(const char *settings, const char *key, long otherwise) {
  const char *found = strstr(settings, key);
  return found ? strtol(found + strlen(key), NULL, 10) : otherwise;
}

static BlurText text(const char *words) {
  BlurText out = {words, strlen(words)};
  return out;
}

static int32_t describe(BlurInstance *self, BlurDescription *out) {
  out->kind = !self ? BLUR_KIND_UNDECIDED : self->filter ? BLUR_KIND_FILTER : BLUR_KIND_DETECTOR;
  out->format = BLUR_FORMAT_I420;
  if (self && !self->filter) {
    out->max_width = 160;
    out->max_height = 160;
  }
  out->name = text("fixed-box");
  out->version = text("1.0");
  out->info_json = text("{\"models\": [{\"name\": \"none\", \"blake3\": \"00ff\"}]}");
  return BLUR_OK;
}

static int32_t create(const BlurCreate *create, BlurInstance **out) {
  char settings[1024] = {0};
  uint64_t len = create->settings.len < sizeof settings ? create->settings.len : sizeof settings - 1;
  memcpy(settings, create->settings.data, len);
  BlurInstance *self = calloc(1, sizeof *self);
  self->filter = number(settings, "\"filter\":", 0);
  self->from = number(settings, "\"from\":", 0);
  self->to = number(settings, "\"to\":", 1000000);
  self->crash_at = number(settings, "\"crash_at\":", -1);
  self->hang_at = number(settings, "\"hang_at\":", -1);
  self->fail_at = number(settings, "\"fail_at\":", -1);
  self->garbage_at = number(settings, "\"garbage_at\":", -1);
  self->leak_at = number(settings, "\"leak_at\":", -1);
  self->sleep_ms = number(settings, "\"sleep_ms\":", 0);
  self->leak_mb = number(settings, "\"leak_mb\":", 64);
  self->percent = number(settings, "\"percent\":", 90);
  self->face = number(settings, "\"face\":", 0);
  self->top = number(settings, "\"top\":", 0);
  self->left = number(settings, "\"left\":", 0);
  self->camera = number(settings, "\"camera\":", -1);
  self->lie = number(settings, "\"lie\":", 0);
  self->late = number(settings, "\"late\":", 0);
  self->escape = number(settings, "\"escape\":", 0);
  self->glances = number(settings, "\"glances\":", 0);
  self->newest = -1;
  self->cameras = create->cameras;
  self->error = "";
  *out = self;
  return BLUR_OK;
}

static void got(BlurInstance *self, int success, const char *what) {
  if (success) strncat(strncat(self->got, " ", 2), what, 20);
}

/* Whether a process of its own that runs `true` ends well. */
static int runs(void) {
  pid_t child = fork();
  if (child < 0) return 0;
  if (child == 0) {
    execl("/bin/true", "true", (char *)NULL);
    _exit(1);
  }
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0;
}

/* A connection to a port of this machine on which nobody listens: refused by the peer, not by the sandbox. */
static int connects(void) {
  int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int can = tcp >= 0 && (connect(tcp, (struct sockaddr *)&nobody, sizeof nobody) == 0 || errno == ECONNREFUSED);
  if (tcp >= 0) close(tcp);
  return can;
}

/* Whether a datagram of an innocent pair comes to a socket of somebody else. */
static int posts(void) {
  int pair[2];
  struct sockaddr_un other = {.sun_family = AF_UNIX, .sun_path = "mailbox"};
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) return 0;
  int can = sendto(pair[0], "hi", 2, 0, (struct sockaddr *)&other, sizeof other) == 2;
  close(pair[0]);
  close(pair[1]);
  return can;
}

/* What can be done to a process of the same user, here the daemon; nothing of it changes anything. */
static void reach(BlurInstance *self) {
  pid_t daemon = getppid();
  struct rlimit files;
  cpu_set_t processors;
  got(self, prlimit(daemon, RLIMIT_NOFILE, NULL, &files) == 0, "limit");
  got(self, kill(daemon, 0) == 0, "signal");
  got(self, sched_getaffinity(daemon, sizeof processors, &processors) == 0 && sched_setaffinity(daemon, sizeof processors, &processors) == 0, "pin");
  got(self, setpriority(PRIO_PROCESS, (id_t)daemon, getpriority(PRIO_PROCESS, (id_t)daemon)) == 0, "slow");
}

static void escape(BlurInstance *self) {
  int fd;
  strcpy(self->got, "escaped:");
  got(self, (fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC)) >= 0, "read");
  if (fd >= 0) close(fd);
  got(self, (fd = open("escaped.txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) >= 0, "write");
  if (fd >= 0) close(fd);
  got(self, (fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) >= 0, "udp");
  if (fd >= 0) close(fd);
  got(self, connects(), "tcp");
  got(self, runs(), "run");
  got(self, unlink("removable.txt") == 0, "remove");
  got(self, posts(), "post");
  reach(self);
}

static int32_t misbehave(BlurInstance *self, const BlurFrame *shown) {
  long frame = (long)shown->index;
  if (shown->camera >= self->cameras) {
    self->error = "a camera beyond the number told";
    return BLUR_FAILED;
  }
  if (self->sleep_ms) {
    struct timespec pause = {self->sleep_ms / 1000, self->sleep_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
  }
  if (self->crash_at >= 0 && frame >= self->crash_at) abort();
  while (self->hang_at >= 0 && frame >= self->hang_at) {
    struct timespec pause = {1, 0};
    nanosleep(&pause, NULL);
  }
  if (self->leak_at >= 0 && frame >= self->leak_at) memset(malloc((size_t)self->leak_mb << 20), 1, (size_t)self->leak_mb << 20);
  if (self->escape && frame >= 3) {
    escape(self);
    if (strcmp(self->got, "escaped:") != 0) {
      self->error = self->got;
      return BLUR_FAILED;
    }
  }
  if (self->fail_at >= 0 && frame >= self->fail_at) {
    self->error = "the test asked for a failure";
    return BLUR_FAILED;
  }
  return BLUR_OK;
}

/* What is wrong with being asked for a glance, or not, at this frame. Frames behind the newest are the tracker's questions. */
static const char *misplaced_glance(BlurInstance *self, const BlurFrame *frame) {
  long at = (long)frame->index;
  int glance = (frame->flags & BLUR_FRAME_GLANCE) != 0;
  if (at <= self->newest) return glance ? NULL : "a thorough look for a question";
  self->glanced = glance ? self->glanced + 1 : 0;
  self->newest = at;
  self->glances_seen += glance;
  if (glance && at < 5) return "a glance where nothing is known yet";
  if (glance && at == 29) return "a glance at the last frame";
  if (at == 29 && self->glances_seen == 0) return "never a glance";
  return self->glanced > 2 ? "three glances in a row" : NULL;
}

static int sees(BlurInstance *self, const BlurFrame *frame) {
  long at = (long)frame->index;
  return self->resets >= self->late && at >= self->from && at < self->to && (self->camera < 0 || self->camera == (long)frame->camera);
}

static int32_t detect(BlurInstance *self, const BlurFrame *frame, const BlurRegion **regions,
                      uint64_t *count) {
  long at = (long)frame->index;
  int32_t status = misbehave(self, frame);
  if (status != BLUR_OK) return status;
  if (self->glances) {
    const char *wrong = misplaced_glance(self, frame);
    if (wrong) {
      self->error = wrong;
      return BLUR_FAILED;
    }
  }
  *regions = &self->region;
  *count = sees(self, frame);
  self->region.x = (float)frame->width * (float)self->left / 100;
  self->region.y = (float)frame->height * (float)self->top / 100;
  self->region.width = (float)frame->width * (float)(100 - 2 * self->left) / 100;
  self->region.height = (float)frame->height / 5;
  self->region.score = (float)self->percent / 100;
  self->region.kind = self->face ? BLUR_REGION_FACE : BLUR_REGION_HEAD;
  if (self->garbage_at >= 0 && at >= self->garbage_at) self->region.x = NAN;
  return BLUR_OK;
}

static int32_t process(BlurInstance *self, BlurFrame *frame, uint32_t *changed) {
  long at = (long)frame->index;
  int32_t status = misbehave(self, frame);
  if (status != BLUR_OK) return status;
  *changed = sees(self, frame);
  if (self->garbage_at >= 0 && at >= self->garbage_at) *changed = 77;
  for (uint32_t y = 0; *changed && y < frame->height / 5; y++) {
    memset(frame->planes[0] + y * frame->strides[0], 128, frame->width);
  }
  if (self->lie) *changed = 0;
  return BLUR_OK;
}

static int32_t reset(BlurInstance *self, uint32_t camera) {
  self->resets++;
  self->newest = -1;
  self->glanced = self->glances_seen = 0;
  (void)camera;
  return BLUR_OK;
}

static void last_error(BlurInstance *self, BlurText *out) { *out = text(self ? self->error : ""); }

static void destroy(BlurInstance *self) { free(self); }

static const BlurPlugin PLUGIN = {sizeof(BlurPlugin), BLUR_ABI_MINOR, describe, create, detect,
                                  process, reset, last_error, destroy};

const BlurPlugin *blur_plugin_v1(void) { return &PLUGIN; }
