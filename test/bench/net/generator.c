// Drives what is between a VM's TAPs and a client interface (the proxy, or a bridge) and measures what comes
// out at the other end. It holds the character devices of the TAPs, as QEMU does, and a packet socket on the
// client interface.
//
//   generator KIND PID WORKLOAD FLOWS PACKETS WINDOW PACKETS_PER_SECOND CLIENT_INTERFACE TAP [TAP]
//
// KIND is `out` (what the VMs send is counted at the client) or `mirror` (what the client sends is counted at
// the TAPs). PID is the process whose CPU time is read, 0 for none. A rate of 0 means as fast as the window
// allows. WARM_NS at full speed pass before. Prints one JSON object.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../frames.h"

#define VNET_BYTES 10
#define SLOT_BYTES 65664
#define BATCH 64
#define STALL_NS 1000000000LL  // what is still out after this is lost
#define SAMPLES_MAX 4000000
// At a fixed rate: rest, so that the kernel does not throttle what spins at real-time priority (sched(7)).
#define REST_EVERY_NS 700000000LL
#define REST_US 100000
#define SEGMENT_BYTES 1448
#define WARM_NS 4000000000LL  // a JIT compiler still replaces code in the third second

static int taps[2], tap_count, client;
static uint8_t frame[SLOT_BYTES], inbox[BATCH][SLOT_BYTES];
static int *samples_us10;
static size_t sample_count;
static int measuring, is_paced, is_mirror;
static int64_t measured_from;
static int64_t refused;  // the interface's queue was full: sent again

static int open_tap(const char *name) {
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) fail(name);
  int bytes = VNET_BYTES;
  ioctl(fd, TUNSETVNETHDRSZ, &bytes);
  if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) fail("TUNSETOFFLOAD");
  return fd;
}

static int open_client(const char *name) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
  int on = 1, bytes = 64 * 1024 * 1024;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail(name);
  return fd;
}

// One frame with its vnet header; a full queue is waited for.
static void put(int fd, const uint8_t *bytes, size_t length) {
  while (write(fd, bytes, length) < 0) {
    if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR) fail("write");
    refused++;
  }
}

// The vnet header and the next segment of `side`; returns its length.
static size_t next_frame(int index, int side, int payload, int64_t stamp) {
  struct virtio_net_hdr header = {0};
  if (payload > SEGMENT_BYTES) {
    header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    header.hdr_len = HEADERS_TCP;
    header.gso_size = SEGMENT_BYTES;
    header.csum_start = 34;
    header.csum_offset = 16;
  }
  memcpy(frame, &header, VNET_BYTES);
  put_frame(frame + VNET_BYTES, index, side, payload, 0, stamp);
  return VNET_BYTES + frame_bytes(payload);
}

static void send_packet(uint64_t number, int64_t stamp) {
  const int index = number % flow_count;
  const int span = work->max_payload - work->min_payload;
  const int payload = work->min_payload + (span > 0 ? (int)(next_random() % (span + 1)) : 0);
  flows[index].ack += 10;
  if (is_mirror) {
    put(client, frame, next_frame(index, 0, payload, stamp));
    return;
  }
  for (int side = 0; side < tap_count; side++)
    put(taps[side], frame, next_frame(index, side, payload, stamp));
}

static int is_ours(const uint8_t *bytes, ssize_t length) {
  static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 2};
  return length > VNET_BYTES + HEADERS_UDP && memcmp(bytes + VNET_BYTES + 6, mac, 6) == 0;
}

static void note(const uint8_t *bytes) {
  if (!measuring || !is_paced || sample_count == SAMPLES_MAX) return;
  int64_t stamp;
  memcpy(&stamp, bytes + VNET_BYTES + (work->is_udp ? HEADERS_UDP : HEADERS_TCP), 8);
  const int64_t now = now_ns();
  if (stamp >= measured_from && stamp <= now) samples_us10[sample_count++] = (int)((now - stamp) / 100);
}

static int pull_client(void) {
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < BATCH; i++) {
    pieces[i] = (struct iovec){inbox[i], SLOT_BYTES};
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  const int got = recvmmsg(client, messages, BATCH, MSG_DONTWAIT, NULL);
  int frames = 0;
  for (int i = 0; i < got; i++) {
    if (!is_ours(inbox[i], messages[i].msg_len)) continue;
    note(inbox[i]);
    frames++;
  }
  return frames;
}

static int pull_tap(int fd) {
  int frames = 0;
  for (int i = 0; i < BATCH; i++) {
    const ssize_t got = read(fd, inbox[0], SLOT_BYTES);
    if (got <= 0) break;
    if (!is_ours(inbox[0], got)) continue;
    if (fd == taps[0]) note(inbox[0]);
    frames++;
  }
  return frames;
}

static double percentile(double share) {
  return sample_count == 0 ? 0 : samples_us10[(size_t)(share * (sample_count - 1))] / 10.0;
}

int main(int count, char **words) {
  if (count < 10 || count > 11) return 2;
  is_mirror = strcmp(words[1], "mirror") == 0;
  const char *pid = words[2];
  if (!begin_flows(words[3], atoi(words[4]))) return 2;
  const int64_t measured_packets = atoll(words[5]), window = atoll(words[6]);
  int64_t warm = INT64_MAX, packets = INT64_MAX;  // until it is warm
  const double per_second = atof(words[7]);
  is_paced = per_second > 0;
  client = open_client(words[8]);
  tap_count = count - 9;
  for (int i = 0; i < tap_count; i++) taps[i] = open_tap(words[9 + i]);
  samples_us10 = malloc(SAMPLES_MAX * sizeof *samples_us10);
  printf("ready\n");  // the TAPs have carriers now; whoever reads this begins when the links are up
  fflush(stdout);
  if (getchar() == EOF) return 1;

  const int64_t warm_at = now_ns() + WARM_NS;
  const int64_t interval = is_paced ? (int64_t)(1e9 / per_second) : 0;
  int64_t sent = 0, arrived = 0, lost = 0, begin = 0, begin_cpu = 0, begin_arrived = 0;
  int64_t ends[2] = {0, 0}, last_progress = now_ns(), due = now_ns(), rest_at = due;
  while (sent < packets || arrived + lost < sent) {
    if (warm == INT64_MAX && now_ns() >= warm_at) {
      warm = sent;
      packets = warm + measured_packets;
    }
    if (!measuring && arrived + lost >= warm) {
      measuring = 1;
      due = begin = measured_from = now_ns();
      begin_cpu = cpu_ns(pid);
      begin_arrived = arrived;
    }
    const int64_t now = now_ns();
    if (is_paced && sent >= warm) {
      if (now > rest_at && arrived + lost == sent) {
        usleep(REST_US);
        due = now_ns();
        rest_at = due + REST_EVERY_NS;
      } else if (measuring && sent < packets && now >= due) {
        send_packet(sent++, now);
        due += interval;
        if (now - due > 1000000) due = now;
      }
    } else {
      const int64_t end = is_paced ? warm : packets;
      for (int i = 0; i < BATCH / 2 && sent < end && sent - arrived - lost < window; i++)
        send_packet(sent++, 0);
    }
    const int64_t before = arrived;
    if (is_mirror) {
      for (int side = 0; side < tap_count; side++) ends[side] += pull_tap(taps[side]);
      arrived = tap_count == 2 && ends[1] < ends[0] ? ends[1] : ends[0];
    } else {
      arrived += pull_client();
    }
    if (arrived > before) {
      last_progress = now;
    } else if (now - last_progress > STALL_NS) {
      lost = sent - arrived;
      last_progress = now;
    }
  }
  const int64_t wall = now_ns() - begin, cpu = cpu_ns(pid) - begin_cpu, measured = arrived - begin_arrived;
  qsort(samples_us10, sample_count, sizeof *samples_us10, by_value);
  printf(
      "{\"packets\":%lld,\"kpps\":%.3f,\"cpuUs\":%.4f,\"lost\":%lld,\"refused\":%lld,\"p50Us\":%.1f,"
      "\"p99Us\":%.1f,\"p999Us\":%.1f,\"maxUs\":%.1f}\n",
      (long long)measured, measured / (wall / 1e6), cpu / 1e3 / (measured > 0 ? measured : 1),
      (long long)lost, (long long)refused, percentile(0.5), percentile(0.99), percentile(0.999),
      percentile(1));
  return 0;
}
