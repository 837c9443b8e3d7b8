// The least a comparator behind these sockets can cost: deframes both streams, compares the payloads frame
// for frame in the order they come, and writes the primary's onward from where they were received. No flows,
// no TCP, no checkpoint, no limits: a yardstick, not a proxy. Only for workloads in which both VMs cut alike.
//
//   floor DIRECTORY
//
// DIRECTORY gets the sockets primary_in, secondary_in, outdev, notify. Ends when a peer closes; status 1 when
// a payload differs.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define BUFFER_BYTES (16 * 1024 * 1024)  // above any window of the generator
#define MOVE_BYTES_MAX \
  (16 * 1024)  // a rest this short goes to the front, so that the buffer stays in the cache
#define PREFIX_BYTES 4
#define HEADER_BYTES 66  // what may differ: Ethernet, IPv4, TCP with timestamps (of UDP: and some payload)

struct stream {
  int fd;
  uint8_t *bytes;
  size_t start, matched, end;  // start..matched: compared and not yet written
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int listen_at(const char *directory, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, name);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0) fail(name);
  return fd;
}

static int accept_one(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) fail("accept");
  int bytes = 1 << 20;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return fd;
}

static void pull(struct stream *stream) {
  const size_t rest = stream->end - stream->start;
  if (rest <= MOVE_BYTES_MAX || stream->end + READ_BYTES > BUFFER_BYTES) {
    memmove(stream->bytes, stream->bytes + stream->start, rest);
    stream->matched -= stream->start;
    stream->start = 0;
    stream->end = rest;
  }
  const ssize_t got = recv(stream->fd, stream->bytes + stream->end, READ_BYTES, 0);
  if (got == 0) exit(0);
  if (got > 0)
    stream->end += got;
  else if (errno != EAGAIN && errno != EINTR)
    fail("recv");
}

// Bytes of the next frame with its prefix; 0 when it is not whole.
static size_t next_frame(const struct stream *stream) {
  const size_t held = stream->end - stream->matched;
  if (held < PREFIX_BYTES) return 0;
  uint32_t bytes;
  memcpy(&bytes, stream->bytes + stream->matched, sizeof bytes);
  const size_t whole = PREFIX_BYTES + (size_t)ntohl(bytes);
  return held < whole ? 0 : whole;
}

static void match(struct stream *primary, struct stream *secondary) {
  for (;;) {
    const size_t bytes = next_frame(primary), other = next_frame(secondary);
    if (bytes == 0 || other == 0) break;
    const size_t skip = PREFIX_BYTES + HEADER_BYTES;
    if (bytes != other ||
        (bytes > skip && memcmp(primary->bytes + primary->matched + skip,
                                secondary->bytes + secondary->matched + skip, bytes - skip) != 0)) {
      fprintf(stderr, "a payload differs\n");
      exit(1);
    }
    primary->matched += bytes;
    secondary->matched += bytes;
  }
  secondary->start = secondary->matched;
}

static void push(int out, struct stream *primary) {
  while (primary->start < primary->matched) {
    const ssize_t put =
        send(out, primary->bytes + primary->start, primary->matched - primary->start, MSG_NOSIGNAL);
    if (put < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      fail("send");
    }
    primary->start += put;
  }
}

int main(int count, char **words) {
  if (count != 2) {
    fprintf(stderr, "usage: floor DIRECTORY\n");
    return 2;
  }
  static const char *const names[4] = {"outdev", "secondary_in", "primary_in", "notify"};
  int fds[4];
  for (int i = 0; i < 4; i++) fds[i] = listen_at(words[1], names[i]);
  for (int i = 0; i < 4; i++) fds[i] = accept_one(fds[i]);
  const int out = fds[0];
  struct stream secondary = {.fd = fds[1], .bytes = malloc(BUFFER_BYTES)};
  struct stream primary = {.fd = fds[2], .bytes = malloc(BUFFER_BYTES)};
  if (primary.bytes == NULL || secondary.bytes == NULL) fail("malloc");
  for (;;) {
    struct pollfd wait[3] = {{primary.fd, POLLIN, 0},
                             {secondary.fd, POLLIN, 0},
                             {out, primary.start < primary.matched ? POLLOUT : 0, 0}};
    if (poll(wait, 3, -1) < 0 && errno != EINTR) fail("poll");
    if (wait[0].revents != 0) pull(&primary);
    if (wait[1].revents != 0) pull(&secondary);
    match(&primary, &secondary);
    push(out, &primary);
  }
}
