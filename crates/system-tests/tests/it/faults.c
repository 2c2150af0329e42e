/* Runs a program and makes the kernel refuse, cut short or end in death chosen system calls of it and of its children.
 *
 *   faults FOLDER KINDS NTH ACTION REPORT -- PROGRAM ARGUMENT...
 *
 * FOLDER  only calls on files beneath it count (its logs/ and status files do not lie there)
 * KINDS   comma-separated: write fsync rename link unlink create mkdir truncate
 * NTH     the call that fails, from 1, counted over all threads and children; with a + at its end, all from there on;
 *         0: none, only count
 * ACTION  an errno by name, or `short` (half of the bytes are written), or `kill` (SIGKILL to the whole group instead of
 *         the call)
 * REPORT  file that gets a line per refused call, and at the end a line `calls N`
 *
 * Made with the kernel's seccomp notifications: no root, no ptrace, and no library call is missed as with LD_PRELOAD.
 * A SIGTERM is passed on. The exit code is the program's, or 128 + its signal. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum kind { WRITE = 1, FSYNC = 2, RENAME = 4, LINK = 8, UNLINK = 16, CREATE = 32, MKDIR = 64, TRUNCATE = 128 };
static const struct { const char *name; int kind; } KINDS[] = {
  {"write", WRITE}, {"fsync", FSYNC}, {"rename", RENAME}, {"link", LINK},
  {"unlink", UNLINK}, {"create", CREATE}, {"mkdir", MKDIR}, {"truncate", TRUNCATE},
};
/* Where a call names its file: argument `fd` is a descriptor, or the directory that the path in `path` starts from.
 * `flags` is the argument that may hold O_CREAT; -1: none. */
struct call { int nr, kind, fd, path, flags; };
static const struct call CALLS[] = {
  {__NR_write, WRITE, 0, -1, -1}, {__NR_pwrite64, WRITE, 0, -1, -1}, {__NR_writev, WRITE, 0, -1, -1},
  {__NR_pwritev, WRITE, 0, -1, -1}, {__NR_pwritev2, WRITE, 0, -1, -1}, {__NR_copy_file_range, WRITE, 2, -1, -1},
  {__NR_sendfile, WRITE, 0, -1, -1}, {__NR_splice, WRITE, 2, -1, -1},
  {__NR_fsync, FSYNC, 0, -1, -1}, {__NR_fdatasync, FSYNC, 0, -1, -1},
  {__NR_renameat, RENAME, 0, 1, -1}, {__NR_renameat2, RENAME, 0, 1, -1}, {__NR_linkat, LINK, 0, 1, -1},
  {__NR_unlinkat, UNLINK, 0, 1, -1}, {__NR_openat, CREATE, 0, 1, 2}, {__NR_openat2, CREATE, 0, 1, 2},
  {__NR_mkdirat, MKDIR, 0, 1, -1}, {__NR_ftruncate, TRUNCATE, 0, -1, -1}, {__NR_fallocate, TRUNCATE, 0, -1, -1},
#ifdef __NR_rename
  {__NR_rename, RENAME, -1, 0, -1}, {__NR_link, LINK, -1, 0, -1}, {__NR_unlink, UNLINK, -1, 0, -1},
  {__NR_open, CREATE, -1, 0, 1}, {__NR_creat, CREATE, -1, 0, -1}, {__NR_mkdir, MKDIR, -1, 0, -1},
#endif
};
#define COUNT(array) (sizeof(array) / sizeof(array[0]))

static const struct { const char *name; int number; } ERRORS[] = {
  {"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EMFILE", EMFILE},
};

static void die(const char *what) {
  fprintf(stderr, "faults: %s: %s\n", what, strerror(errno));
  exit(125);
}

static const struct call *call_of(int nr) {
  for (size_t i = 0; i < COUNT(CALLS); i++)
    if (CALLS[i].nr == nr) return &CALLS[i];
  return NULL;
}

/* Asks about the calls of these kinds, allows all others. */
static int install(int kinds) {
  struct sock_filter filter[3 * COUNT(CALLS) + 8];
  unsigned short n = 0;
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < COUNT(CALLS); i++) {
    if (!(CALLS[i].kind & kinds)) continue;
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)CALLS[i].nr, 0, 1);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  }
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {n, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void send_fd(int socket, int fd) {
  char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, 0) < 0) die("send the listener");
}

static int receive_fd(int socket) {
  int fd = -1;
  char byte, control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, 0) <= 0 || !CMSG_FIRSTHDR(&message)) return -1;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

static ssize_t peek(pid_t pid, unsigned long long at, void *to, size_t size) {
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/mem", pid);
  int memory = open(name, O_RDONLY | O_CLOEXEC);
  ssize_t got = memory < 0 ? -1 : pread(memory, to, size, (off_t)at);
  if (memory >= 0) close(memory);
  return got;
}

static int link_target(pid_t pid, const char *what, char *to) {
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/%s", pid, what);
  ssize_t length = readlink(name, to, PATH_MAX - 1);
  to[length < 0 ? 0 : length] = 0;
  return length >= 0;
}

/* The file that the call is about. */
static int path_of(const struct seccomp_notif *request, const struct call *call, char *to) {
  pid_t pid = (pid_t)request->pid;
  char base[PATH_MAX] = "", given[PATH_MAX] = "", what[32] = "cwd";
  if (call->fd >= 0 && (int)request->data.args[call->fd] != AT_FDCWD)
    snprintf(what, sizeof what, "fd/%d", (int)request->data.args[call->fd]);
  if (!link_target(pid, what, base)) return 0;
  if (call->path < 0) return strcpy(to, base), 1;
  if (peek(pid, request->data.args[call->path], given, sizeof given - 1) <= 0) {
    /* The page behind the text is not there. */
    size_t length = 4096 - request->data.args[call->path] % 4096;
    if (peek(pid, request->data.args[call->path], given, length < sizeof given ? length : sizeof given - 1) <= 0) return 0;
  }
  if (given[0] == '/') return strcpy(to, given), 1;
  return snprintf(to, 2 * PATH_MAX, "%s/%s", base, given) > 0;
}

static int creates(const struct seccomp_notif *request, const struct call *call) {
  if (call->kind != CREATE || call->flags < 0) return 1;
  unsigned long long flags = request->data.args[call->flags];
  if (call->nr == __NR_openat2 && peek((pid_t)request->pid, flags, &flags, sizeof flags) <= 0) return 0;
  return (flags & O_CREAT) != 0;
}

/* The first half of what a call is to write; null where that cannot be told. */
static char *first_half(const struct seccomp_notif *request, size_t *half) {
  const unsigned long long *args = (const unsigned long long *)request->data.args;
  struct iovec parts[IOV_MAX], one = {(void *)(uintptr_t)args[1], args[2]};
  size_t count = 1, total = 0, have = 0;
  if (request->data.nr == __NR_pwritev) {
    count = args[2];
    ssize_t size = (ssize_t)(count * sizeof *parts);
    if (count > IOV_MAX || peek((pid_t)request->pid, args[1], parts, (size_t)size) != size) return NULL;
  } else if (request->data.nr == __NR_write || request->data.nr == __NR_pwrite64) {
    parts[0] = one;
  } else {
    return NULL;
  }
  for (size_t i = 0; i < count; i++) total += parts[i].iov_len;
  *half = total / 2;
  char *bytes = *half ? malloc(*half) : NULL;
  for (size_t i = 0; bytes && have < *half; i++) {
    size_t some = parts[i].iov_len < *half - have ? parts[i].iov_len : *half - have;
    if (some && peek((pid_t)request->pid, (uintptr_t)parts[i].iov_base, bytes + have, some) != (ssize_t)some) {
      free(bytes);
      return NULL;
    }
    have += some;
  }
  return bytes;
}

/* Writes half of what was asked for; -1 where that cannot be done for this call. */
static long long write_half(const struct seccomp_notif *request) {
  const unsigned long long *args = (const unsigned long long *)request->data.args;
  int nr = request->data.nr;
  size_t half = 0;
  char *bytes = first_half(request, &half);
  if (!bytes) return -1;
  int process = (int)syscall(SYS_pidfd_open, (pid_t)request->pid, 0);
  if (process < 0) { /* it is a thread's id: ask for its process */
    char name[64], line[256];
    int leader = 0;
    snprintf(name, sizeof name, "/proc/%d/status", (pid_t)request->pid);
    FILE *status = fopen(name, "re");
    while (status && fgets(line, sizeof line, status))
      if (sscanf(line, "Tgid: %d", &leader) == 1) break;
    if (status) fclose(status);
    process = (int)syscall(SYS_pidfd_open, leader, 0);
  }
  int file = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, (int)args[0], 0);
  long long done = -1;
  if (file >= 0)
    done = nr == __NR_write ? write(file, bytes, half) : pwrite(file, bytes, half, (off_t)args[3]);
  if (file >= 0) close(file);
  if (process >= 0) close(process);
  free(bytes);
  return done;
}

static volatile pid_t child;

static void pass_on(int signal) {
  if (child > 0) kill(child, signal);
}

int main(int argc, char **argv) {
  if (argc < 8 || strcmp(argv[6], "--")) return fputs("usage: see the head of the source\n", stderr), 125;
  const char *folder = argv[1], *action = argv[4];
  int kinds = 0, error = 0;
  for (size_t i = 0; i < COUNT(KINDS); i++)
    if (strstr(argv[2], KINDS[i].name)) kinds |= KINDS[i].kind;
  for (size_t i = 0; i < COUNT(ERRORS); i++)
    if (!strcmp(action, ERRORS[i].name)) error = ERRORS[i].number;
  long nth = atol(argv[3]), calls = 0;
  int all_after = strchr(argv[3], '+') != NULL, is_short = !strcmp(action, "short"), is_kill = !strcmp(action, "kill");
  if (!error && !is_short && !is_kill) return fputs("faults: unknown action\n", stderr), 125;
  FILE *report = fopen(argv[5], "we");
  if (!report) die(argv[5]);

  /* Orphans come to us, so that nothing of the program is left when we end. */
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  /* A test that is killed leaves nothing running. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) die("socketpair");
  child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    setpgid(0, 0);
    /* The tester must not be outlived when it is killed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Sending the listener must not itself be asked about: sendmsg is in no kind. */
    int listener = install(kinds);
    if (listener < 0) die("seccomp");
    send_fd(pair[1], listener);
    execv(argv[7], argv + 7);
    die(argv[7]);
  }
  close(pair[1]);
  signal(SIGTERM, pass_on);
  int listener = receive_fd(pair[0]);
  if (listener < 0) return fputs("faults: no seccomp notifications here\n", stderr), 125;
  fcntl(listener, F_SETFD, FD_CLOEXEC);

  struct seccomp_notif_sizes sizes;
  if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes)) die("sizes");
  struct seccomp_notif *request = calloc(1, sizes.seccomp_notif);
  struct seccomp_notif_resp *response = calloc(1, sizes.seccomp_notif_resp);
  size_t folder_length = strlen(folder);
  int status = 0;
  for (;;) {
    struct pollfd ready = {listener, POLLIN, 0};
    int polled = poll(&ready, 1, 10), ended = 0;
    pid_t gone;
    while ((gone = waitpid(-1, &ended, WNOHANG)) > 0)
      if (gone == child) status = ended;
    if (gone < 0) break; /* the last one is gone */
    if (polled <= 0 || !(ready.revents & POLLIN)) {
      if (polled > 0) usleep(1000);
      continue;
    }
    memset(request, 0, sizes.seccomp_notif);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, request)) continue;
    memset(response, 0, sizes.seccomp_notif_resp);
    response->id = request->id;
    response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    const struct call *call = call_of(request->data.nr);
    char path[2 * PATH_MAX] = "";
    if (call && creates(request, call) && path_of(request, call, path) && !strncmp(path, folder, folder_length)) {
      calls++;
      if (nth && (calls == nth || (all_after && calls > nth))) {
        fprintf(report, "%s %d %s\n", action, request->data.nr, path);
        fflush(report);
        if (is_kill) {
          kill(-child, SIGKILL);
          /* Workers have groups of their own; they are told apart by the listener, which ends with the last one. */
          kill((pid_t)request->pid, SIGKILL);
          continue;
        }
        long long half = is_short ? write_half(request) : 0;
        if (half >= 0) {
          response->flags = 0;
          response->error = -error;
          response->val = half;
        }
      }
    }
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, response);
  }
  fprintf(report, "calls %ld\n", calls);
  fclose(report);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
