// AF_PACKET sockets (packet(7), linux/if_packet.h; net/packet/af_packet.c).
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "errors.h"
#include "frame_port.h"

namespace colo {
namespace {

constexpr uint32_t kFramesPerCall = 64;
// Asked for at first when little came last: each message that is asked for is written first, which cold
// caches make dear.
constexpr uint32_t kFramesPerCallMin = 4;
constexpr uint32_t kVlanTagBytes = 4;
constexpr uint32_t kMacAddressesBytes = 12;

// In the bytes of struct virtio_net_hdr.
constexpr uint8_t kNeedsChecksum = 1;
constexpr size_t kFlags = 0;
constexpr size_t kHeaderLength = 2;
constexpr size_t kChecksumStart = 6;

void AddLittleEndian16(uint8_t* field, uint32_t value) {
  const uint32_t sum = (field[0] | field[1] << 8) + value;
  field[0] = static_cast<uint8_t>(sum);
  field[1] = static_cast<uint8_t>(sum >> 8);
}

class PacketSocket final : public FramePort {
 public:
  // packet_release waits until no CPU can be delivering to the socket any more (synchronize_net).
  PacketSocket(int fd, std::string name, int index, bool vnet_header)
      : FramePort(fd, std::move(name), index, vnet_header, Closing::kAside) {}

 protected:
  int Receive(Slots* slots) override;
  int Send(const Frames& frames, uint32_t* taken) override;
  void UpdateStatistics() override;
  const char* receive_syscall() const override { return "recvmmsg"; }
  const char* send_syscall() const override { return "sendmmsg"; }

 private:
  union Control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  };

  uint8_t* RestoreTag(uint8_t* frame, uint32_t* length, const struct tpacket_auxdata& aux) const;

  // Frames of the last call, which foretell those of the next.
  uint32_t last_received_ = kFramesPerCall;
  uint64_t last_mean_bytes_ = 0;
  struct mmsghdr messages_[kFramesPerCall];
  struct iovec pieces_[kFramesPerCall * 2];
  Control controls_[kFramesPerCall];
};

// The kernel has taken the outermost tag out of the frame and tells of it in the control message only
// (skb_vlan_untag; packet_recvmsg). The vnet header's positions are those of the frame without it.
uint8_t* PacketSocket::RestoreTag(uint8_t* frame, uint32_t* length, const struct tpacket_auxdata& aux) const {
  uint8_t* start = frame - kVlanTagBytes;
  memmove(start - vnet_bytes(), frame - vnet_bytes(), vnet_bytes() + kMacAddressesBytes);
  const uint16_t protocol =
      (aux.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? aux.tp_vlan_tpid : uint16_t{ETH_P_8021Q};
  const uint16_t tag[2] = {htons(protocol), htons(aux.tp_vlan_tci)};
  memcpy(start + kMacAddressesBytes, tag, sizeof tag);
  *length += kVlanTagBytes;
  if (vnet_bytes() != 0) {
    uint8_t* header = start - vnet_bytes();
    if ((header[kFlags] & kNeedsChecksum) != 0) AddLittleEndian16(header + kChecksumStart, kVlanTagBytes);
    if (header[kHeaderLength] != 0 || header[kHeaderLength + 1] != 0) {
      AddLittleEndian16(header + kHeaderLength, kVlanTagBytes);
    }
  }
  return start;
}

int PacketSocket::Receive(Slots* slots) {
  uint32_t dropped = 0;
  uint32_t round = std::clamp(2 * last_received_, kFramesPerCallMin, kFramesPerCall);
  if (last_mean_bytes_ != 0) round = std::min<uint32_t>(round, kBytesPerReceive / last_mean_bytes_ + 1);
  while (!slots->full() && dropped < kDropsPerReceiveMax) {
    const uint32_t base = slots->received;
    const uint32_t asked = std::min(slots->wanted - base, round);
    for (uint32_t i = 0; i < asked; i++) {
      pieces_[i] = {slots->Frame(base + i) - vnet_bytes(), vnet_bytes() + slots->frame_bytes_max()};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &pieces_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
      messages_[i].msg_hdr.msg_control = &controls_[i];
      messages_[i].msg_hdr.msg_controllen = sizeof controls_[i];
    }
    const int got = recvmmsg(fd(), messages_, asked, MSG_DONTWAIT, nullptr);
    if (got < 0) {
      if (errno == EAGAIN) return 0;
      if (errno == EINTR) continue;
      if (errno != EINVAL || vnet_bytes() == 0) return errno;
      // packet_rcv_vnet: a GSO type that virtio has no name for. The frame is gone, the others are not.
      statistics_.undescribable++;
      dropped++;
      continue;
    }
    for (int i = 0; i < got; i++) {
      struct msghdr* header = &messages_[i].msg_hdr;
      if ((header->msg_flags & MSG_TRUNC) != 0 || messages_[i].msg_len < vnet_bytes()) {
        statistics_.truncated++;
        dropped++;
        continue;
      }
      uint32_t length = messages_[i].msg_len - vnet_bytes();
      uint8_t* frame = slots->Frame(base + i);
      uint8_t* free = slots->Frame(slots->received);
      // Only after a dropped frame: close the gap.
      if (free != frame) memmove(free - vnet_bytes(), frame - vnet_bytes(), messages_[i].msg_len);
      for (struct cmsghdr* c = CMSG_FIRSTHDR(header); c != nullptr; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
        struct tpacket_auxdata aux;
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
        if ((aux.tp_status & TP_STATUS_VLAN_VALID) != 0 && length >= kMacAddressesBytes) {
          free = RestoreTag(free, &length, aux);
        }
      }
      slots->Accept(free, length);
    }
    last_received_ = slots->received;
    if (slots->received > 0) last_mean_bytes_ = slots->bytes / slots->received;
    // Fewer than asked: the queue is empty, or the rest waits behind an error. The next call finds out which.
    if (static_cast<uint32_t>(got) < asked && slots->received > 0) break;
    round = kFramesPerCall;
  }
  return 0;
}

int PacketSocket::Send(const Frames& frames, uint32_t* taken) {
  uint8_t empty_header[kVnetHeaderBytes] = {};
  const uint32_t missing = vnet_bytes() - frames.header_bytes;
  while (*taken < frames.count) {
    const uint32_t base = *taken;
    const uint32_t asked = std::min(frames.count - base, kFramesPerCall);
    for (uint32_t i = 0; i < asked; i++) {
      const uint8_t* start = frames.slab + frames.offsets[base + i] - frames.header_bytes;
      struct iovec* pieces = &pieces_[i * 2];
      pieces[0] = {empty_header, missing};
      pieces[1] = {const_cast<uint8_t*>(start),
                   static_cast<size_t>(frames.lengths[base + i]) + frames.header_bytes};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = missing == 0 ? pieces + 1 : pieces;
      messages_[i].msg_hdr.msg_iovlen = missing == 0 ? 1 : 2;
    }
    const int put = sendmmsg(fd(), messages_, asked, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put >= 0) {
      // Stopped early by a frame that was refused: the next round begins with it and learns why.
      *taken += static_cast<uint32_t>(put);
      continue;
    }
    const int error = errno;
    if (error == EINTR) continue;
    const Refusal refusal = Classify(error);
    if (refusal == Refusal::kQueueFull) return EAGAIN;
    if (refusal == Refusal::kPort) return error;
    CountSendError(error);
    (*taken)++;
  }
  return 0;
}

void PacketSocket::UpdateStatistics() {
  // Reading them sets them to zero.
  struct tpacket_stats since;
  socklen_t length = sizeof since;
  if (getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &since, &length) != 0) return;
  statistics_.packets += since.tp_packets;
  statistics_.drops += since.tp_drops;
}

struct Setting {
  int level;
  int option;
  const char* name;
};

int SetOption(int fd, const Setting& setting, int value) {
  return setsockopt(fd, setting.level, setting.option, &value, sizeof value) == 0 ? 0 : errno;
}

// The forced form passes net.core.[rw]mem_max and needs CAP_NET_ADMIN.
int SetBuffer(int fd, const Setting& forced, const Setting& plain, int bytes) {
  const int error = SetOption(fd, forced, bytes);
  return error == EPERM ? SetOption(fd, plain, bytes) : error;
}

}  // namespace

napi_value OpenPacketSocket(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Options options;
  std::string name;
  bool promiscuous = false, vnet_header = false, bypass_queue = false, has_send_buffer = false;
  int32_t receive_buffer = 0, send_buffer = 0;
  if (!Options::From(env, call[0], &options) || !options.Get("interface", &name) ||
      !options.Get("promiscuous", &promiscuous) || !options.Get("vnetHeader", &vnet_header) ||
      !options.Get("bypassQueue", &bypass_queue) || !options.Get("receiveBufferBytes", &receive_buffer) ||
      !options.Get("sendBufferBytes", &send_buffer, &has_send_buffer)) {
    return nullptr;
  }
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return ThrowRange(env, "an interface name has 1 to 15 bytes: '" + name + "'");
  }
  if (receive_buffer <= 0) return ThrowRange(env, "receiveBufferBytes must be positive");
  const unsigned index = if_nametoindex(name.c_str());
  if (index == 0) return ThrowErrno(env, ENODEV, "if_nametoindex", name);

  // Protocol 0: nothing arrives before it is set up and bound.
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return ThrowErrno(env, errno, "socket", name);
  auto port = std::make_unique<PacketSocket>(fd, name, static_cast<int>(index), vnet_header);

  const Setting required[] = {{SOL_PACKET, PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"},
                              {SOL_PACKET, PACKET_AUXDATA, "PACKET_AUXDATA"}};
  for (const Setting& setting : required) {
    if (const int error = SetOption(fd, setting, 1)) return ThrowErrno(env, error, setting.name, name);
  }
  if (vnet_header) {
    const Setting setting = {SOL_PACKET, PACKET_VNET_HDR, "PACKET_VNET_HDR"};
    if (const int error = SetOption(fd, setting, 1)) return ThrowErrno(env, error, setting.name, name);
  }
  if (bypass_queue) {
    const Setting setting = {SOL_PACKET, PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS"};
    if (const int error = SetOption(fd, setting, 1)) return ThrowErrno(env, error, setting.name, name);
  }
  const Setting force_receive = {SOL_SOCKET, SO_RCVBUFFORCE, "SO_RCVBUFFORCE"};
  const Setting receive = {SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"};
  if (const int error = SetBuffer(fd, force_receive, receive, receive_buffer)) {
    return ThrowErrno(env, error, receive.name, name);
  }
  const Setting force_send = {SOL_SOCKET, SO_SNDBUFFORCE, "SO_SNDBUFFORCE"};
  const Setting send = {SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"};
  if (has_send_buffer) {
    if (const int error = SetBuffer(fd, force_send, send, send_buffer))
      return ThrowErrno(env, error, send.name, name);
  }
  struct sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(index);
  if (bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) {
    return ThrowErrno(env, errno, "bind", name);
  }
  if (promiscuous) {
    struct packet_mreq membership = {};
    membership.mr_ifindex = static_cast<int>(index);
    membership.mr_type = PACKET_MR_PROMISC;
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) != 0) {
      return ThrowErrno(env, errno, "PACKET_ADD_MEMBERSHIP", name);
    }
  }
  int granted = 0;
  socklen_t length = sizeof granted;
  getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &length);
  napi_value object = FramePort::Wrap(env, std::move(port));
  if (object != nullptr) napi_set_named_property(env, object, "receiveBufferBytes", Number(env, granted));
  return object;
}

// adoptPacketSocket({fd, interface, vnetHeader}): a copy of a descriptor that another process has set up.
napi_value AdoptPacketSocket(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Options options;
  std::string name;
  int32_t given = -1;
  bool vnet_header = false;
  if (!Options::From(env, call[0], &options) || !options.Get("interface", &name) ||
      !options.Get("fd", &given) || !options.Get("vnetHeader", &vnet_header)) {
    return nullptr;
  }
  const int fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return ThrowErrno(env, errno, "dup", name);
  const int index = static_cast<int>(if_nametoindex(name.c_str()));
  auto port = std::make_unique<PacketSocket>(fd, name, index, vnet_header);
  struct sockaddr_ll address = {};
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<struct sockaddr*>(&address), &length) != 0)
    return ThrowErrno(env, errno, "getsockname", name);
  if (address.sll_family != AF_PACKET || address.sll_ifindex != index)
    return ThrowErrno(env, ENODEV, "getsockname", name);
  return FramePort::Wrap(env, std::move(port));
}

}  // namespace colo
