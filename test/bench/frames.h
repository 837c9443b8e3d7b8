// Frames of the benchmarks' generators: what the primary and the secondary of a pair would send, equal in
// what is compared and different in what is not (IP id, timestamps).
#pragma once
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATTERN_BYTES 65536
#define HEADERS_TCP 66  // Ethernet 14, IPv4 20, TCP 32 with timestamps
#define HEADERS_UDP 42

struct workload {
  const char *name;
  int min_payload, max_payload, cut, is_udp, diverging_per_mille;  // cut: of the secondary's segments
};
static const struct workload workloads[] = {
    {"bulk", 1448, 1448, 0, 0, 0},     {"small", 64, 200, 0, 0, 0}, {"udp", 64, 64, 0, 1, 0},
    {"split", 1448, 1448, 1000, 0, 0}, {"div", 64, 200, 0, 0, 10},  {"gso", 64000, 64000, 0, 0, 0},
};

struct flow {
  uint32_t seq[2];  // next position of primary and secondary
  uint32_t ack;
  uint16_t ip_id;
};

static uint8_t pattern[2 * PATTERN_BYTES + 8];
static struct flow *flows;
static const struct workload *work;
static int flow_count;
static uint32_t random_state = 12345;

static uint32_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

// Nanoseconds on a CPU of all tasks.
static int64_t cpu_ns(const char *pid) {
  char path[128];
  snprintf(path, sizeof path, "/proc/%s/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return 0;
  int64_t sum = 0;
  struct dirent *task;
  while ((task = readdir(tasks)) != NULL) {
    if (task->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%s/task/%.20s/schedstat", pid, task->d_name);
    FILE *file = fopen(path, "r");
    long long on_cpu = 0;
    if (file != NULL) {
      if (fscanf(file, "%lld", &on_cpu) == 1) sum += on_cpu;
      fclose(file);
    }
  }
  closedir(tasks);
  return sum;
}

static void put16(uint8_t *at, uint32_t value) {
  at[0] = value >> 8;
  at[1] = value;
}

static void put32(uint8_t *at, uint32_t value) {
  at[0] = value >> 24;
  at[1] = value >> 16;
  at[2] = value >> 8;
  at[3] = value;
}

// False when there is no such workload.
static int begin_flows(const char *workload_name, int count) {
  for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
    if (strcmp(workloads[i].name, workload_name) == 0) work = &workloads[i];
  if (work == NULL) return 0;
  flow_count = count;
  for (int i = 0; i < PATTERN_BYTES; i++) pattern[i] = next_random() >> 8;
  memcpy(pattern + PATTERN_BYTES, pattern, PATTERN_BYTES);
  flows = calloc(flow_count, sizeof *flows);
  for (int i = 0; i < flow_count; i++) {
    flows[i].seq[0] = flows[i].seq[1] = 1000000 + i * 7919;
    flows[i].ack = 5000;
  }
  return 1;
}

static int frame_bytes(int payload) { return (work->is_udp ? HEADERS_UDP : HEADERS_TCP) + payload; }

// The flow's next segment of `side` (0 primary, 1 secondary); a stamp that is not 0 takes the payload's first
// 8 bytes.
static void put_frame(uint8_t *frame, int index, int side, int payload, int diverges, int64_t stamp) {
  struct flow *flow = &flows[index];
  int headers = work->is_udp ? HEADERS_UDP : HEADERS_TCP;
  static const uint8_t macs[12] = {0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2};
  memcpy(frame, macs, 12);
  put16(frame + 12, 0x0800);
  uint8_t *ip = frame + 14;
  put16(ip, 0x4500);
  put16(ip + 2, headers - 14 + payload);
  put16(ip + 4, flow->ip_id++ + side * 7777);
  put16(ip + 6, 0x4000);
  ip[8] = 64;
  ip[9] = work->is_udp ? 17 : 6;
  put16(ip + 10, 0);
  put32(ip + 12, 0x0a000002);
  put32(ip + 16, 0x0a010000 + (index >> 12));
  uint32_t sum = 0;
  for (int i = 0; i < 20; i += 2) sum += ip[i] << 8 | ip[i + 1];
  sum = (sum & 0xffff) + (sum >> 16);
  put16(ip + 10, ~(sum + (sum >> 16)));
  uint8_t *l4 = ip + 20;
  put16(l4, 80);
  put16(l4 + 2, 1024 + (index & 4095));
  uint32_t position = flow->seq[side];
  if (work->is_udp) {
    put16(l4 + 4, 8 + payload);
    put16(l4 + 6, 0);
  } else {
    put32(l4 + 4, position);
    put32(l4 + 8, flow->ack);
    put16(l4 + 12, 0x8018);
    put16(l4 + 14, 501);
    put32(l4 + 16, 0);
    put32(l4 + 20, 0x0101080a);
    put32(l4 + 24, position / 1000 + side * 99999);
    put32(l4 + 28, 4242);
  }
  flow->seq[side] += payload;
  memcpy(frame + headers, pattern + (position & (PATTERN_BYTES - 1)), payload);
  if (stamp != 0) memcpy(frame + headers, &stamp, 8);
  if (diverges) frame[headers + payload / 2] ^= 0x55;
}

static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
