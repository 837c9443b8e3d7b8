// A bulk TCP server whose output depends on nothing but the connection, and its client.
//
//   tcp serve PORT                      of each connection the first byte says: d: bytes for ever, u: read
//   for ever tcp d|u HOST PORT SECONDS           prints Gbit/s of payload, after a warm-up of half a second
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES (256 * 1024)

static uint8_t chunk[CHUNK_BYTES];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static ssize_t move(int fd, int sends) {
  return sends ? send(fd, chunk, CHUNK_BYTES, MSG_NOSIGNAL) : recv(fd, chunk, CHUNK_BYTES, 0);
}

// Linux's usual one, whatever the machine's is: BBR paces, and a pair goes as slowly as the VM that just
// probes with less.
static void choose_congestion_control(int fd) {
  if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0) fail("TCP_CONGESTION");
}

static int serve(int port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  choose_congestion_control(listener);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 64) != 0)
    fail("listen");
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    const int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      char kind;
      if (recv(fd, &kind, 1, 0) == 1)
        while (move(fd, kind == 'd') > 0) continue;
      _exit(0);
    }
    close(fd);
  }
}

int main(int count, char **words) {
  memset(chunk, 'x', sizeof chunk);
  if (count == 3 && strcmp(words[1], "serve") == 0) return serve(atoi(words[2]));
  if (count != 5) return 2;
  const int sends = words[1][0] == 'u';
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[3]))};
  inet_pton(AF_INET, words[2], &address.sin_addr);
  choose_congestion_control(fd);
  alarm(atoi(words[4]) + 20);
  const struct timeval patience = {.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  if (send(fd, words[1], 1, 0) != 1) fail("send");
  const double begin = now() + 0.5, end = begin + atof(words[4]);
  double bytes = 0, t;
  while ((t = now()) < end) {
    const ssize_t moved = move(fd, sends);
    if (moved <= 0) break;  // stalled for as long as the patience lasts: it counts
    if (t >= begin) bytes += moved;
  }
  printf("%.4f\n", bytes * 8 / (now() - begin) / 1e9);
  return 0;
}
