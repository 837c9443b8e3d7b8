// TAP devices: the character device /dev/net/tun (linux/if_tun.h, Documentation/networking/tuntap.rst).
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "errors.h"
#include "frame_port.h"

namespace colo {
namespace {

class Tap final : public FramePort {
 public:
  using FramePort::FramePort;

 protected:
  int Receive(Slots* slots) override;
  int Send(const Frames& frames, uint32_t* taken) override;
  const char* receive_syscall() const override { return "read"; }
  const char* send_syscall() const override { return "write"; }
};

int Tap::Receive(Slots* slots) {
  const size_t capacity = vnet_bytes() + slots->frame_bytes_max();
  uint32_t dropped = 0;
  while (!slots->full() && dropped < kDropsPerReceiveMax) {
    uint8_t* frame = slots->Frame(slots->received);
    // tun_do_read copies what fits and says nothing of the rest: one byte too many shows it.
    uint8_t excess;
    struct iovec pieces[2] = {{frame - vnet_bytes(), capacity}, {&excess, 1}};
    const ssize_t got = readv(fd(), pieces, 2);
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN ? 0 : errno;
    }
    if (static_cast<size_t>(got) > capacity || got < static_cast<ssize_t>(vnet_bytes())) {
      statistics_.truncated++;
      dropped++;
      continue;
    }
    slots->Accept(frame, static_cast<uint32_t>(got) - vnet_bytes());
  }
  return 0;
}

int Tap::Send(const Frames& frames, uint32_t* taken) {
  // A port with vnet headers needs one before every frame, if only an empty one.
  uint8_t empty_header[kVnetHeaderBytes] = {};
  const uint32_t missing = vnet_bytes() - frames.header_bytes;
  while (*taken < frames.count) {
    const uint8_t* start = frames.slab + frames.offsets[*taken] - frames.header_bytes;
    const size_t length = static_cast<size_t>(frames.lengths[*taken]) + frames.header_bytes;
    struct iovec pieces[2] = {{empty_header, missing}, {const_cast<uint8_t*>(start), length}};
    const ssize_t put = missing == 0 ? write(fd(), start, length) : writev(fd(), pieces, 2);
    if (put < 0) {
      const int error = errno;
      if (error == EINTR) continue;
      const Refusal refusal = Classify(error);
      if (refusal == Refusal::kQueueFull) return EAGAIN;
      if (refusal == Refusal::kPort) return error;
      CountSendError(error);
    }
    (*taken)++;
  }
  return 0;
}

struct TapOptions {
  std::string name;
  bool vnet_header = false;
  bool multi_queue = false;
  bool persistent = false;
  bool must_exist = false;
  int32_t owner = -1;
  int32_t group = -1;
  std::string offload = "none";

  bool Read(const Options& options) {
    return options.Get("name", &name) && options.Get("vnetHeader", &vnet_header) &&
           options.Get("multiQueue", &multi_queue) && options.Get("persistent", &persistent) &&
           options.Get("mustExist", &must_exist) && options.Get("owner", &owner) &&
           options.Get("group", &group) && options.Get("offload", &offload);
  }
};

// A failed step: the ioctl's name and errno.
struct Failure {
  const char* syscall = nullptr;
  int error_number = 0;
};

bool NameIsValid(napi_env env, const std::string& name) {
  if (!name.empty() && name.size() < IFNAMSIZ) return true;
  ThrowRange(env, "an interface name has 1 to 15 bytes: '" + name + "'");
  return false;
}

// Opens the device and attaches it to `*name`, which becomes the name the kernel chose. -1: see `failure`.
int Attach(std::string* name, int flags, Failure* failure) {
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    *failure = {"open /dev/net/tun", errno};
    return -1;
  }
  struct ifreq request = {};
  memcpy(request.ifr_name, name->data(), name->size());
  request.ifr_flags = static_cast<short>(flags);
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    *failure = {"TUNSETIFF", errno};
    close(fd);
    return -1;
  }
  *name = request.ifr_name;
  return fd;
}

Failure Control(int fd, unsigned long request, unsigned long argument, const char* name) {
  if (ioctl(fd, request, argument) < 0) return {name, errno};
  return {};
}

Failure SetOwnership(int fd, int32_t owner, int32_t group) {
  Failure failure;
  if (owner >= 0) failure = Control(fd, TUNSETOWNER, static_cast<unsigned long>(owner), "TUNSETOWNER");
  if (failure.error_number == 0 && group >= 0) {
    failure = Control(fd, TUNSETGROUP, static_cast<unsigned long>(group), "TUNSETGROUP");
  }
  return failure;
}

Failure SetVnetHeader(int fd) {
  int size = kVnetHeaderBytes;
  int little_endian = 1;
  if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) return {"TUNSETVNETHDRSZ", errno};
  // Native order is little-endian on such machines anyway, and some kernels are built without the switch.
  if (ioctl(fd, TUNSETVNETLE, &little_endian) < 0 && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) {
    return {"TUNSETVNETLE", errno};
  }
  return {};
}

}  // namespace

napi_value OpenTap(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Options members;
  TapOptions options;
  if (!Options::From(env, call[0], &members) || !options.Read(members)) return nullptr;
  if (!NameIsValid(env, options.name)) return nullptr;
  unsigned long offload = 0;
  if (options.offload == "checksum")
    offload = TUN_F_CSUM;
  else if (options.offload == "gso")
    offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  else if (options.offload != "none")
    return ThrowRange(env, "offload must be none, checksum or gso");
  if (offload != 0 && !options.vnet_header) return ThrowRange(env, "offload needs vnetHeader");
  if (options.must_exist && if_nametoindex(options.name.c_str()) == 0) {
    return ThrowErrno(env, ENODEV, "TUNSETIFF", options.name);
  }

  Failure failure;
  int flags = IFF_TAP | IFF_NO_PI;
  if (options.vnet_header) flags |= IFF_VNET_HDR;
  if (options.multi_queue) flags |= IFF_MULTI_QUEUE;
  const int fd = Attach(&options.name, flags, &failure);
  if (fd < 0) return ThrowErrno(env, failure.error_number, failure.syscall, options.name);
  auto tap =
      std::make_unique<Tap>(fd, options.name, if_nametoindex(options.name.c_str()), options.vnet_header);

  if (options.vnet_header) failure = SetVnetHeader(fd);
  // Always set: a persistent TAP keeps what its last holder chose.
  if (failure.error_number == 0) failure = Control(fd, TUNSETOFFLOAD, offload, "TUNSETOFFLOAD");
  if (failure.error_number == 0) failure = SetOwnership(fd, options.owner, options.group);
  if (failure.error_number == 0 && options.persistent)
    failure = Control(fd, TUNSETPERSIST, 1, "TUNSETPERSIST");
  if (failure.error_number != 0) return ThrowErrno(env, failure.error_number, failure.syscall, options.name);
  return FramePort::Wrap(env, std::move(tap));
}

// adoptTap({fd, name, vnetHeader}): a copy of a descriptor that another process has opened.
napi_value AdoptTap(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Options members;
  std::string name;
  int32_t given = -1;
  bool vnet_header = false;
  if (!Options::From(env, call[0], &members) || !members.Get("name", &name) || !members.Get("fd", &given) ||
      !members.Get("vnetHeader", &vnet_header) || !NameIsValid(env, name)) {
    return nullptr;
  }
  const int fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return ThrowErrno(env, errno, "dup", name);
  auto tap = std::make_unique<Tap>(fd, name, if_nametoindex(name.c_str()), vnet_header);
  struct ifreq request = {};
  if (ioctl(fd, TUNGETIFF, &request) < 0) return ThrowErrno(env, errno, "TUNGETIFF", name);
  if (name != request.ifr_name) return ThrowErrno(env, ENODEV, "TUNGETIFF", name);
  return FramePort::Wrap(env, std::move(tap));
}

napi_value CreatePersistentTap(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Options members;
  TapOptions options;
  if (!Options::From(env, call[0], &members) || !options.Read(members)) return nullptr;
  if (!NameIsValid(env, options.name)) return nullptr;
  const bool existed = if_nametoindex(options.name.c_str()) != 0;
  Failure failure;
  const int flags = IFF_TAP | IFF_NO_PI | (options.multi_queue ? IFF_MULTI_QUEUE : 0);
  const int fd = Attach(&options.name, flags, &failure);
  if (fd < 0) return ThrowErrno(env, failure.error_number, failure.syscall, options.name);
  failure = SetOwnership(fd, options.owner, options.group);
  if (failure.error_number == 0) failure = Control(fd, TUNSETPERSIST, 1, "TUNSETPERSIST");
  close(fd);
  if (failure.error_number != 0) return ThrowErrno(env, failure.error_number, failure.syscall, options.name);

  napi_value result, created, name;
  napi_create_object(env, &result);
  napi_get_boolean(env, !existed, &created);
  napi_create_string_utf8(env, options.name.data(), options.name.size(), &name);
  napi_set_named_property(env, result, "created", created);
  napi_set_named_property(env, result, "name", name);
  return result;
}

napi_value RemoveTap(napi_env env, napi_callback_info info) {
  Call call(env, info);
  std::string name;
  if (!call.GetString(0, &name) || !NameIsValid(env, name)) return nullptr;
  // TUNSETIFF would make one.
  if (if_nametoindex(name.c_str()) == 0) return ThrowErrno(env, ENODEV, "TUNSETIFF", name);
  Failure failure;
  int fd = Attach(&name, IFF_TAP | IFF_NO_PI, &failure);
  if (fd < 0 && failure.error_number == EINVAL) {
    fd = Attach(&name, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, &failure);
  }
  if (fd < 0) return ThrowErrno(env, failure.error_number, failure.syscall, name);
  failure = Control(fd, TUNSETPERSIST, 0, "TUNSETPERSIST");
  close(fd);
  if (failure.error_number != 0) return ThrowErrno(env, failure.error_number, failure.syscall, name);
  return Undefined(env);
}

}  // namespace colo
