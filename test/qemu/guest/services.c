/*
 * The services of the laboratory's guest, in one process and one poll loop, so that two copies of the guest
 * that get the same input give the same output. The exception is wanted: `rand` answers differently in each
 * VM.
 *
 *   tcp 7     echo
 *   udp 7     echo
 *   udp 9     answers "REQUEST RANDOM\n": differs between the VMs
 *   tcp 80    HTTP: /1m.bin, /64k.bin, /bytes/LENGTH/SEED; no Date header, nothing that depends on a clock;
 *             /cookie: a header and a body that differ between the VMs
 *   tcp 8000  lines: inc -> counter=N; get -> counter=N; rand -> rand=RANDOM: differs between the VMs;
 *             poweroff, reboot: the guest does, at once
 *             write BLOCK BYTE -> written=BLOCK: 64 KiB of that byte are on the disk
 *             read BLOCK -> byte=BYTE, past the guest's own cache; -1: they are not all alike
 *             both: disk-failed=ERRNO when the disk did not do it
 *             dial ADDRESS PORT LOCALPORT -> the guest connects there (LOCALPORT 0: an ephemeral one),
 * greets, echoes every line until the peer closes, then answers dialed=LINES or dial-failed=ERRNO
 *
 * All over IPv4 and IPv6. What `rand` and udp 9 answer is also written to the console, so that a test can
 * tell from the serial logs which VM's bytes a client got. A heartbeat line goes to the console every second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum kind { ECHO, HTTP, LINES, DIAL };

enum { CONNECTIONS_MAX = 512, LINE_BYTES_MAX = 512, OUTPUT_BYTES_MAX = 65536, DATAGRAM_BYTES_MAX = 2048 };
enum { DISK_BLOCK_BYTES = 65536 };

static const uint64_t DOWNLOAD_BYTES_MAX = 1ull << 30;

struct connection {
  int fd;
  enum kind kind;
  bool connecting;
  bool close_when_sent;
  char line[LINE_BYTES_MAX];
  size_t line_bytes;
  char path[LINE_BYTES_MAX]; /* HTTP: of the request whose headers are being read */
  unsigned char output[OUTPUT_BYTES_MAX];
  size_t output_start, output_end;
  uint32_t pattern_seed;
  uint64_t pattern_next, pattern_end; /* follows the output */
  struct connection *asker;           /* DIAL: who waits for the outcome */
  struct connection *dialling;        /* LINES: the connection it waits for */
  unsigned long lines_echoed;
};

static struct connection *connections[CONNECTIONS_MAX];
static int connection_count;
static unsigned long counter;

/* The word at `index` of the pattern; client/pattern.mjs has the same function. */
static uint32_t pattern_word(uint32_t seed, uint32_t index) {
  uint32_t x = index * 0x9e3779b1u + seed * 0x27d4eb2fu;
  x ^= x >> 15;
  x *= 0x85ebca77u;
  x ^= x >> 13;
  x *= 0xc2b2ae3du;
  return x ^ (x >> 16);
}

static void fail(const char *what) {
  printf("services: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int listener(int type, int port) {
  int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket");
  int on = 1, off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
  if (type == SOCK_STREAM && listen(fd, 128) < 0) fail("listen");
  return fd;
}

static struct connection *add_connection(int fd, enum kind kind) {
  struct connection *c = connection_count < CONNECTIONS_MAX ? calloc(1, sizeof *c) : NULL;
  if (!c) {
    close(fd);
    return NULL;
  }
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  c->fd = fd;
  c->kind = kind;
  return connections[connection_count++] = c;
}

static size_t output_room(const struct connection *c) { return OUTPUT_BYTES_MAX - c->output_end; }

static bool has_output(const struct connection *c) {
  return c->output_start < c->output_end || c->pattern_next < c->pattern_end;
}

static void put(struct connection *c, const char *text) {
  size_t bytes = strlen(text);
  if (bytes > output_room(c)) return;
  memcpy(c->output + c->output_end, text, bytes);
  c->output_end += bytes;
}

static void fill_from_pattern(struct connection *c) {
  while (c->pattern_next < c->pattern_end && output_room(c) >= 4) {
    uint32_t word = pattern_word(c->pattern_seed, (uint32_t)(c->pattern_next / 4));
    uint64_t left = c->pattern_end - c->pattern_next;
    size_t bytes = left < 4 ? (size_t)left : 4;
    for (size_t i = 0; i < bytes; i++) c->output[c->output_end++] = (unsigned char)(word >> (8 * i));
    c->pattern_next += bytes;
  }
}

/* False when the connection is of no use any more. */
static bool flush(struct connection *c) {
  while (has_output(c)) {
    fill_from_pattern(c);
    ssize_t sent = write(c->fd, c->output + c->output_start, c->output_end - c->output_start);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    c->output_start += (size_t)sent;
    if (c->output_start < c->output_end) return true;
    c->output_start = c->output_end = 0;
  }
  return !c->close_when_sent;
}

/* 16 random bytes and the clock's nanoseconds, in hex: text of at least 49 bytes. */
static void differing_text(char *text) {
  unsigned char bytes[16];
  struct timespec now;
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) fail("getrandom");
  clock_gettime(CLOCK_MONOTONIC, &now);
  for (size_t i = 0; i < sizeof bytes; i++) text += sprintf(text, "%02x", bytes[i]);
  sprintf(text, "%016llx", (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec);
}

static void start_dial(struct connection *asker, const char *address, unsigned port, unsigned local_port) {
  struct sockaddr_storage peer = {0}, local = {0};
  struct sockaddr_in *v4 = (struct sockaddr_in *)&peer;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer;
  socklen_t bytes;
  if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    ((struct sockaddr_in *)&local)->sin_family = AF_INET;
    ((struct sockaddr_in *)&local)->sin_port = htons((uint16_t)local_port);
    bytes = sizeof *v4;
  } else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    ((struct sockaddr_in6 *)&local)->sin6_family = AF_INET6;
    ((struct sockaddr_in6 *)&local)->sin6_port = htons((uint16_t)local_port);
    bytes = sizeof *v6;
  } else {
    put(asker, "dial-failed=address\n");
    return;
  }
  int fd = socket(peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket");
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (local_port && bind(fd, (struct sockaddr *)&local, bytes) < 0) fail("bind to dial");
  bool failed = connect(fd, (struct sockaddr *)&peer, bytes) < 0 && errno != EINPROGRESS;
  struct connection *dialled = failed ? (close(fd), NULL) : add_connection(fd, DIAL);
  if (!dialled) {
    put(asker, "dial-failed=connect\n");
    return;
  }
  dialled->connecting = true;
  dialled->asker = asker;
  asker->dialling = dialled;
}

/* False, with errno, when the disk did not do it. */
static bool disk_io(bool writes, unsigned block, unsigned char *bytes) {
  int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_DSYNC);
  if (fd < 0) return false;
  off_t at = (off_t)block * DISK_BLOCK_BYTES;
  ssize_t done = writes ? pwrite(fd, bytes, DISK_BLOCK_BYTES, at) : pread(fd, bytes, DISK_BLOCK_BYTES, at);
  int error = done < 0 ? errno : EIO;
  close(fd);
  errno = error;
  return done == DISK_BLOCK_BYTES;
}

/* The whole service waits for the disk: its other output comes after it in both VMs. */
static void answer_disk(char *text, size_t text_bytes, bool writes, unsigned block, unsigned byte) {
  static _Alignas(4096) unsigned char bytes[DISK_BLOCK_BYTES];
  memset(bytes, (int)byte, sizeof bytes);
  if (!disk_io(writes, block, bytes)) {
    snprintf(text, text_bytes, "disk-failed=%d\n", errno);
  } else if (writes) {
    snprintf(text, text_bytes, "written=%u\n", block);
  } else {
    bool alike = !memcmp(bytes, bytes + 1, sizeof bytes - 1);
    snprintf(text, text_bytes, "byte=%d\n", alike ? bytes[0] : -1);
  }
}

static void answer_line(struct connection *c) {
  char text[LINE_BYTES_MAX], random[64], address[64];
  unsigned port, local_port, block, byte;
  if (!strcmp(c->line, "inc")) {
    snprintf(text, sizeof text, "counter=%lu\n", ++counter);
  } else if (!strcmp(c->line, "get")) {
    snprintf(text, sizeof text, "counter=%lu\n", counter);
  } else if (!strcmp(c->line, "rand")) {
    differing_text(random);
    printf("rand=%s\n", random);
    snprintf(text, sizeof text, "rand=%s\n", random);
  } else if (!strcmp(c->line, "poweroff")) {
    reboot(RB_POWER_OFF);
    return;
  } else if (!strcmp(c->line, "reboot")) {
    reboot(RB_AUTOBOOT);
    return;
  } else if (sscanf(c->line, "write %u %u", &block, &byte) == 2) {
    answer_disk(text, sizeof text, true, block, byte);
  } else if (sscanf(c->line, "read %u", &block) == 1) {
    answer_disk(text, sizeof text, false, block, 0);
  } else if (sscanf(c->line, "dial %63s %u %u", address, &port, &local_port) == 3) {
    start_dial(c, address, port, local_port);
    return;
  } else {
    snprintf(text, sizeof text, "unknown\n");
  }
  put(c, text);
}

/* The body repeats the cookie, so that a client can show which VM's header it got. */
static void answer_cookie(struct connection *c) {
  char text[LINE_BYTES_MAX], random[64];
  differing_text(random);
  snprintf(text, sizeof text,
           "HTTP/1.1 200 OK\r\nServer: lab\r\nSet-Cookie: id=%s\r\nContent-Length: %zu\r\n\r\nid=%s\n",
           random, strlen(random) + 4, random);
  put(c, text);
}

static void answer_http(struct connection *c) {
  char header[256];
  unsigned long long length = 0;
  unsigned seed = 0;
  if (!strcmp(c->path, "/cookie")) {
    answer_cookie(c);
    return;
  }
  if (!strcmp(c->path, "/1m.bin")) {
    length = 1 << 20, seed = 1;
  } else if (!strcmp(c->path, "/64k.bin")) {
    length = 1 << 16, seed = 2;
  } else if (sscanf(c->path, "/bytes/%llu/%u", &length, &seed) != 2 || length > DOWNLOAD_BYTES_MAX) {
    put(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  snprintf(header, sizeof header,
           "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n",
           length);
  put(c, header);
  c->pattern_seed = seed;
  c->pattern_next = 0;
  c->pattern_end = length;
}

static void http_line(struct connection *c) {
  if (!c->path[0]) {
    if (sscanf(c->line, "GET %511s", c->path) != 1) c->close_when_sent = true;
  } else if (!strcasecmp(c->line, "Connection: close")) {
    c->close_when_sent = true;
  } else if (!c->line[0]) {
    answer_http(c);
    c->path[0] = 0;
  }
}

static void dialled_line(struct connection *c) {
  char text[LINE_BYTES_MAX + 8];
  snprintf(text, sizeof text, "echo %s\n", c->line);
  put(c, text);
  c->lines_echoed++;
}

static void take_line(struct connection *c) {
  if (c->line_bytes && c->line[c->line_bytes - 1] == '\r') c->line_bytes--;
  c->line[c->line_bytes] = 0;
  c->line_bytes = 0;
  if (c->kind == HTTP) http_line(c);
  if (c->kind == LINES) answer_line(c);
  if (c->kind == DIAL) dialled_line(c);
}

/* One request is answered before the next is read: a client that asks ahead waits in the socket. */
static bool take_input(struct connection *c) {
  if (c->kind == ECHO) {
    ssize_t got = read(c->fd, c->output, sizeof c->output);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    c->output_end = (size_t)got;
    return true;
  }
  while (!has_output(c) && !c->dialling) {
    char byte;
    ssize_t got = read(c->fd, &byte, 1);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    if (byte == '\n')
      take_line(c);
    else if (c->line_bytes < sizeof c->line - 1)
      c->line[c->line_bytes++] = byte;
    else
      return false;
  }
  return true;
}

static void end_connection(struct connection *c, int error) {
  if (c->kind == DIAL && c->asker) {
    char text[64];
    if (error)
      snprintf(text, sizeof text, "dial-failed=%d\n", error);
    else
      snprintf(text, sizeof text, "dialed=%lu\n", c->lines_echoed);
    c->asker->dialling = NULL;
    put(c->asker, text);
    flush(c->asker);
  }
  if (c->dialling) c->dialling->asker = NULL;
  close(c->fd);
  for (int i = 0; i < connection_count; i++)
    if (connections[i] == c) connections[i] = connections[--connection_count];
  free(c);
}

static void serve(struct connection *c, short events) {
  if (c->connecting) {
    int error = 0;
    socklen_t bytes = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error) {
      end_connection(c, error);
      return;
    }
    c->connecting = false;
    put(c, "hello from the guest\n");
  } else if (!has_output(c)) {
    if ((c->dialling && events & (POLLHUP | POLLERR)) || !take_input(c)) {
      end_connection(c, 0);
      return;
    }
  }
  if (!flush(c)) end_connection(c, 0);
}

static void serve_datagram(int fd, bool differing) {
  unsigned char data[DATAGRAM_BYTES_MAX];
  struct sockaddr_storage peer;
  socklen_t peer_bytes = sizeof peer;
  ssize_t got = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&peer, &peer_bytes);
  if (got < 0) return;
  if (!differing) {
    sendto(fd, data, (size_t)got, 0, (struct sockaddr *)&peer, peer_bytes);
    return;
  }
  char random[64], text[256];
  differing_text(random);
  printf("datagram=%s\n", random);
  int bytes = snprintf(text, sizeof text, "%.*s %s\n", (int)(got < 128 ? got : 128), (char *)data, random);
  sendto(fd, text, (size_t)bytes, 0, (struct sockaddr *)&peer, peer_bytes);
}

static long seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  enum { LISTENERS = 5 };
  const int fds[LISTENERS] = {listener(SOCK_STREAM, 7), listener(SOCK_STREAM, 80),
                              listener(SOCK_STREAM, 8000), listener(SOCK_DGRAM, 7), listener(SOCK_DGRAM, 9)};
  const enum kind kinds[3] = {ECHO, HTTP, LINES};
  static struct pollfd polled[LISTENERS + CONNECTIONS_MAX];
  static struct connection *polled_connections[CONNECTIONS_MAX];
  char warm_up[64];
  differing_text(warm_up); /* waits, once, until the kernel has gathered randomness */
  printf("services: ready\n");
  long last_beat = seconds_now();
  unsigned long beats = 0;
  for (;;) {
    for (int i = 0; i < LISTENERS; i++) polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    const int count = connection_count;
    for (int i = 0; i < count; i++) {
      struct connection *c = polled_connections[i] = connections[i];
      bool writes = c->connecting || has_output(c);
      /* A line that waits for a dial's outcome is read on afterwards. */
      short events = writes ? POLLOUT : c->dialling ? 0 : POLLIN;
      polled[LISTENERS + i] = (struct pollfd){.fd = c->fd, .events = events};
    }
    poll(polled, (nfds_t)(LISTENERS + count), 1000);
    if (seconds_now() != last_beat) {
      last_beat = seconds_now();
      printf("heartbeat %lu\n", ++beats);
    }
    for (int i = 0; i < count; i++) {
      bool alive = false;
      for (int k = 0; k < connection_count && !alive; k++) alive = connections[k] == polled_connections[i];
      if (alive && polled[LISTENERS + i].revents) serve(polled_connections[i], polled[LISTENERS + i].revents);
    }
    for (int i = 0; i < 3; i++) {
      int fd = polled[i].revents ? accept4(fds[i], NULL, NULL, SOCK_NONBLOCK) : -1;
      if (fd >= 0) add_connection(fd, kinds[i]);
    }
    if (polled[3].revents) serve_datagram(fds[3], false);
    if (polled[4].revents) serve_datagram(fds[4], true);
  }
}
