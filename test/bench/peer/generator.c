// Drives a colo-compare (QEMU's or ours) over its four unix sockets with a window of frames outstanding, or
// at a fixed rate, and measures what comes out. It plays both VMs and the checkpoint: at DO_CHECKPOINT it
// waits until both inputs have been read and the output is quiet, and answers COLO_CHECKPOINT.
//
//   generator DIRECTORY PID WORKLOAD FLOWS PACKETS WINDOW PACKETS_PER_SECOND
//
// DIRECTORY holds the sockets primary_in, secondary_in, outdev, notify; PID is the peer, whose CPU time is
// read from its tasks' schedstat around the measured part. A rate of 0 means as fast as the window allows;
// before what is measured, WARM_NS pass like that. Prints one JSON object.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../frames.h"

#define BLOCK_BYTES (256 * 1024)
#define BUFFER_BYTES (4 * 1024 * 1024)
#define STALL_NS 4000000000LL  // longer than QEMU's compare_timeout and scan: what is still out is lost
#define QUIET_NS 300000LL
#define SAMPLES_MAX 4000000
// At a fixed rate: rest, so that the kernel does not throttle what spins at real-time priority (sched(7)).
#define REST_EVERY_NS 700000000LL
#define REST_US 100000
#define WARM_NS 4000000000LL  // a JIT compiler still replaces code in the third second

struct stream {
  int fd;
  uint8_t *bytes;
  size_t start, end;
};

static uint64_t packet_count;
static int *samples_us10;  // tenths of a microsecond
static size_t sample_count;

static int connect_to(const char *directory, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, name);
  for (int attempt = 0; attempt < 500; attempt++) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    int bytes = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
      fcntl(fd, F_SETFL, O_NONBLOCK);
      return fd;
    }
    close(fd);
    usleep(20000);
  }
  fail(address.sun_path);
  return -1;
}

static uint8_t *room(struct stream *stream, size_t bytes) {
  if (stream->start == stream->end) stream->start = stream->end = 0;
  if (stream->end + bytes > BUFFER_BYTES) {
    memmove(stream->bytes, stream->bytes + stream->start, stream->end - stream->start);
    stream->end -= stream->start;
    stream->start = 0;
    if (stream->end + bytes > BUFFER_BYTES) {
      fprintf(stderr, "buffer full\n");
      exit(1);
    }
  }
  uint8_t *at = stream->bytes + stream->end;
  stream->end += bytes;
  return at;
}

static void add_frame(struct stream *stream, int index, int side, int payload, int diverges, int64_t stamp) {
  const int bytes = frame_bytes(payload);
  uint8_t *at = room(stream, 4 + bytes);
  put32(at, bytes);
  put_frame(at + 4, index, side, payload, diverges, stamp);
}

// One packet of the primary, and the secondary's of the same bytes.
static void add_packet(struct stream *primary, struct stream *secondary, uint64_t number, int64_t stamp) {
  int index = number % flow_count;
  int span = work->max_payload - work->min_payload;
  int payload = work->min_payload + (span > 0 ? (int)(next_random() % (span + 1)) : 0);
  if (work->min_payload < 1000) flows[index].ack += 10;
  int diverges = work->diverging_per_mille > 0 && (int)(next_random() % 1000) < work->diverging_per_mille;
  add_frame(primary, index, 0, payload, 0, stamp);
  if (work->cut == 0) {
    add_frame(secondary, index, 1, payload, diverges, stamp);
    return;
  }
  // the same stream in other pieces: whatever is whole by now
  while (flows[index].seq[0] - flows[index].seq[1] >= (uint32_t)work->cut)
    add_frame(secondary, index, 1, work->cut, 0, 0);
  const int is_last = number + flow_count >= packet_count;
  if ((is_last || next_random() % 8 == 0) && flows[index].seq[0] != flows[index].seq[1])
    add_frame(secondary, index, 1, flows[index].seq[0] - flows[index].seq[1], 0, 0);
}

static void push(struct stream *stream) {
  while (stream->start < stream->end) {
    ssize_t put = send(stream->fd, stream->bytes + stream->start, stream->end - stream->start, MSG_NOSIGNAL);
    if (put < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      fail("send");
    }
    stream->start += put;
  }
}

// Reads what there is; returns the number of whole frames and calls `each` for them. 0: nothing.
static int pull(struct stream *stream, void (*each)(const uint8_t *frame, uint32_t bytes)) {
  int frames = 0;
  if (stream->start > 0) {
    memmove(stream->bytes, stream->bytes + stream->start, stream->end - stream->start);
    stream->end -= stream->start;
    stream->start = 0;
  }
  ssize_t got = recv(stream->fd, stream->bytes + stream->end, BLOCK_BYTES, 0);
  if (got == 0) {
    fprintf(stderr, "the peer closed a socket\n");
    exit(1);
  }
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return 0;
    fail("recv");
  }
  stream->end += got;
  while (stream->end - stream->start >= 4) {
    const uint8_t *at = stream->bytes + stream->start;
    uint32_t bytes = (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
    if (stream->end - stream->start < 4 + (size_t)bytes) break;
    each(at + 4, bytes);
    stream->start += 4 + bytes;
    frames++;
  }
  return frames;
}

static int measuring, is_paced;
static void released(const uint8_t *frame, uint32_t bytes) {
  if (!measuring || !is_paced || bytes < HEADERS_TCP + 8) return;
  int64_t stamp;
  memcpy(&stamp, frame + (work->is_udp ? HEADERS_UDP : HEADERS_TCP), 8);
  if (sample_count < SAMPLES_MAX) samples_us10[sample_count++] = (int)((now_ns() - stamp) / 100);
}

static int asked;
static void heard(const uint8_t *word, uint32_t bytes) {
  if (bytes == 13 && memcmp(word, "DO_CHECKPOINT", 13) == 0) asked++;
}

static int unread(struct stream *stream) {
  int bytes = 0;
  ioctl(stream->fd, SIOCOUTQ, &bytes);
  return bytes > 0 || stream->start < stream->end;
}

static double percentile(double share) {
  if (sample_count == 0) return 0;
  size_t index = (size_t)(share * (sample_count - 1));
  return samples_us10[index] / 10.0;
}

static struct stream stream_of(const char *directory, const char *name) {
  struct stream stream = {.fd = connect_to(directory, name), .bytes = malloc(BUFFER_BYTES)};
  return stream;
}

int main(int count, char **words) {
  if (count != 8) {
    fprintf(stderr, "usage: generator DIRECTORY PID WORKLOAD FLOWS PACKETS WINDOW PACKETS_PER_SECOND\n");
    return 2;
  }
  const char *pid = words[2];
  if (!begin_flows(words[3], atoi(words[4]))) return 2;
  const int64_t measured_packets = atoll(words[5]), window = atoll(words[6]);
  int64_t warm = INT64_MAX, packets = INT64_MAX;  // until it is warm
  const double per_second = atof(words[7]);
  packet_count = packets;
  is_paced = per_second > 0;
  samples_us10 = malloc(SAMPLES_MAX * sizeof *samples_us10);

  struct stream primary = stream_of(words[1], "primary_in");
  struct stream secondary = stream_of(words[1], "secondary_in");
  struct stream out = stream_of(words[1], "outdev");
  struct stream notify = stream_of(words[1], "notify");
  usleep(300000);  // QEMU loses what it releases before it has accepted outdev

  int64_t sent = 0, outstanding = 0, out_total = 0, lost = 0, checkpoints = 0;
  int64_t begin = 0, begin_cpu = 0, begin_out = 0, last_progress = now_ns(), asked_at = 0, quiet_since = 0;
  const int64_t interval = is_paced ? (int64_t)(1e9 / per_second) : 0;
  const int64_t warm_at = now_ns() + WARM_NS;
  int64_t due = now_ns(), rest_at = due;
  while (sent < packets || outstanding > 0) {
    if (warm == INT64_MAX && now_ns() >= warm_at) {
      warm = sent;
      packets = warm + measured_packets;
      packet_count = packets;
    }
    if (!measuring && out_total + lost >= warm) {
      measuring = 1;
      due = now_ns();
      begin = now_ns();
      begin_cpu = cpu_ns(pid);
      begin_out = out_total;
    }
    const int idle_inputs = primary.start == primary.end && secondary.start == secondary.end;
    if (!asked && idle_inputs && sent < packets) {
      primary.start = primary.end = secondary.start = secondary.end = 0;
      if (is_paced && sent >= warm) {
        const int64_t now = now_ns();
        if (now > rest_at && outstanding == 0) {
          usleep(REST_US);
          due = now_ns();
          rest_at = due + REST_EVERY_NS;
        } else if (measuring && now >= due) {
          add_packet(&primary, &secondary, sent++, now);
          outstanding++;
          due += interval;
          if (now - due > 1000000) due = now;
        }
      } else {
        const int64_t end = is_paced ? warm : packets;
        while (outstanding < window && sent < end && primary.end < BLOCK_BYTES) {
          add_packet(&primary, &secondary, sent++, 0);
          outstanding++;
        }
      }
    }
    // QEMU compares datagrams newest first: one that only the primary has sent yet costs it a checkpoint
    push(work->is_udp ? &secondary : &primary);
    push(work->is_udp ? &primary : &secondary);
    if (!is_paced || !measuring) {
      struct pollfd wait[4] = {{out.fd, POLLIN, 0},
                               {notify.fd, POLLIN, 0},
                               {primary.fd, primary.start < primary.end ? POLLOUT : 0, 0},
                               {secondary.fd, secondary.start < secondary.end ? POLLOUT : 0, 0}};
      const int more = !asked && outstanding < window && sent < (is_paced ? warm : packets) &&
                       primary.start == primary.end && secondary.start == secondary.end;
      poll(wait, 4, more || asked ? 0 : 20);
    }
    const int got = pull(&out, released);
    pull(&notify, heard);
    const int64_t now = now_ns();
    if (got > 0) {
      out_total += got;
      outstanding -= got;
      last_progress = quiet_since = now;
    }
    if (asked) {
      if (asked_at == 0) asked_at = quiet_since = now;
      if (unread(&primary) || unread(&secondary)) quiet_since = now;
      if (now - quiet_since > QUIET_NS) {
        static const uint8_t answer[19] = "\0\0\0\17COLO_CHECKPOINT";
        if (send(notify.fd, answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer) fail("notify");
        // what is asked for again until the flush arrives is this checkpoint still
        const int64_t flush_end = now + 50000000;
        int64_t quiet = 0;
        while (outstanding > 0 && now_ns() < flush_end) {
          const int more = pull(&out, released);
          out_total += more;
          outstanding -= more;
        }
        quiet = now_ns();
        while (now_ns() - quiet < QUIET_NS)
          if (pull(&notify, heard) > 0) quiet = now_ns();
        checkpoints++;
        asked = 0;
        asked_at = 0;
        last_progress = now_ns();
      }
    } else if (outstanding > 0 && now - last_progress > STALL_NS) {
      lost += outstanding;
      outstanding = 0;
      last_progress = now;
    }
  }
  const int64_t wall = now_ns() - begin, cpu = cpu_ns(pid) - begin_cpu, measured = out_total - begin_out;
  qsort(samples_us10, sample_count, sizeof *samples_us10, by_value);
  printf(
      "{\"packets\":%lld,\"wallMs\":%.3f,\"kpps\":%.3f,\"cpuUs\":%.4f,\"lost\":%lld,\"checkpoints\":%lld,"
      "\"p50Us\":%.1f,\"p99Us\":%.1f,\"p999Us\":%.1f}\n",
      (long long)measured, wall / 1e6, measured / (wall / 1e6), cpu / 1e3 / (measured > 0 ? measured : 1),
      (long long)lost, (long long)checkpoints, percentile(0.5), percentile(0.99), percentile(0.999));
  return 0;
}
