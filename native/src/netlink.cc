// Netlink sockets (netlink(7)): datagrams to and from the kernel; their content is the caller's.
#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "errors.h"
#include "port.h"
#include "system_ports.h"

namespace colo {
namespace {

// Datagrams of other processes skipped by one receive call at most.
constexpr int kForeignMax = 64;

class Netlink final : public Port {
 public:
  static constexpr Kind kKind = Kind::kNetlink;
  explicit Netlink(int fd) : Port(kKind, fd) {}

  static napi_value Send(napi_env env, napi_callback_info info);
  static napi_value Receive(napi_env env, napi_callback_info info);
};

// send(message)
napi_value Netlink::Send(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Bytes message;
  auto* port = PortFrom<Netlink>(call);
  if (port == nullptr || !call.GetBytes(0, &message)) return nullptr;
  struct sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  ssize_t put;
  do {
    put = sendto(port->fd(), message.data, message.length, MSG_DONTWAIT,
                 reinterpret_cast<struct sockaddr*>(&kernel), sizeof kernel);
  } while (put < 0 && errno == EINTR);
  return put < 0 ? ThrowErrno(env, errno, "sendto") : Undefined(env);
}

// receive(buffer)
napi_value Netlink::Receive(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Bytes buffer;
  auto* port = PortFrom<Netlink>(call);
  if (port == nullptr || !call.GetBytes(0, &buffer)) return nullptr;
  for (int foreign = 0; foreign < kForeignMax;) {
    struct sockaddr_nl sender = {};
    socklen_t sender_bytes = sizeof sender;
    // MSG_TRUNC: the datagram's whole length is returned, whatever fits.
    const ssize_t got = recvfrom(port->fd(), buffer.data, buffer.length, MSG_DONTWAIT | MSG_TRUNC,
                                 reinterpret_cast<struct sockaddr*>(&sender), &sender_bytes);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      return ThrowErrno(env, errno, "recvfrom");
    }
    // Any process may send to our port; only the kernel has id 0.
    if (sender.nl_pid != 0) {
      foreign++;
      continue;
    }
    if (static_cast<size_t>(got) > buffer.length) return ThrowErrno(env, EMSGSIZE, "recvfrom");
    return Number(env, static_cast<double>(got));
  }
  return Number(env, -1);
}

}  // namespace

napi_value OpenNetlink(napi_env env, napi_callback_info info) {
  static const Method methods[] = {{"send", Netlink::Send}, {"receive", Netlink::Receive}};
  Call call(env, info);
  Options options;
  std::string protocol = "route";
  int32_t groups = 0;
  if (!Options::From(env, call[0], &options) || !options.Get("protocol", &protocol) ||
      !options.Get("groups", &groups)) {
    return nullptr;
  }
  int number;
  if (protocol == "route") {
    number = NETLINK_ROUTE;
  } else if (protocol == "netfilter") {
    number = NETLINK_NETFILTER;
  } else if (protocol == "generic") {
    number = NETLINK_GENERIC;
  } else {
    return ThrowRange(env, "protocol must be route, netfilter or generic");
  }
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, number);
  if (fd < 0) return ThrowErrno(env, errno, "socket");
  auto port = std::make_unique<Netlink>(fd);
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = static_cast<uint32_t>(groups);
  if (bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) {
    return ThrowErrno(env, errno, "bind");
  }
  napi_value object = Port::Wrap(env, std::move(port));
  if (object != nullptr) DefineMethods(env, object, methods, sizeof methods / sizeof *methods);
  return object;
}

}  // namespace colo
