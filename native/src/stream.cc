// Connected stream sockets (unix, TCP) read into and written from the caller's own slab.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "errors.h"
#include "port.h"
#include "system_ports.h"

namespace colo {
namespace {

class Stream final : public Port {
 public:
  static constexpr Kind kKind = Kind::kStream;
  explicit Stream(int fd) : Port(kKind, fd) {}

  static napi_value Read(napi_env env, napi_callback_info info);
  static napi_value Write(napi_env env, napi_callback_info info);
  static napi_value Finish(napi_env env, napi_callback_info info);
  static napi_value UnsentBytes(napi_env env, napi_callback_info info);
  static napi_value UnreadBytes(napi_env env, napi_callback_info info);
  static napi_value SetSendBuffer(napi_env env, napi_callback_info info);

 private:
  static napi_value Query(napi_env env, napi_callback_info info, unsigned long request, const char* name);
};

// read(buffer, offset, length)
napi_value Stream::Read(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Bytes buffer;
  uint32_t offset, length;
  auto* stream = PortFrom<Stream>(call);
  if (stream == nullptr || !call.GetBytes(0, &buffer) || !call.GetCount(1, &offset) ||
      !call.GetCount(2, &length)) {
    return nullptr;
  }
  // Length 0 would look like the peer's end.
  if (length == 0 || !buffer.Holds(offset, length))
    return ThrowRange(env, "the range must lie inside the buffer and not be empty");
  ssize_t got;
  do {
    got = recv(stream->fd(), buffer.data + offset, length, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno != EAGAIN) return ThrowErrno(env, errno, "recv");
  return Number(env, static_cast<double>(got));
}

// write(buffer, offset, length)
napi_value Stream::Write(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Bytes buffer;
  uint32_t offset, length;
  auto* stream = PortFrom<Stream>(call);
  if (stream == nullptr || !call.GetBytes(0, &buffer) || !call.GetCount(1, &offset) ||
      !call.GetCount(2, &length)) {
    return nullptr;
  }
  if (!buffer.Holds(offset, length)) return ThrowRange(env, "the range must lie inside the buffer");
  ssize_t put;
  do {
    put = send(stream->fd(), buffer.data + offset, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  if (put >= 0) return Number(env, static_cast<double>(put));
  // ENOBUFS and ENOMEM: the machine is short of socket memory for the moment.
  if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) return Number(env, 0);
  return ThrowErrno(env, errno, "send");
}

// finish()
napi_value Stream::Finish(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* stream = PortFrom<Stream>(call);
  if (stream == nullptr) return nullptr;
  if (shutdown(stream->fd(), SHUT_WR) < 0) return ThrowErrno(env, errno, "shutdown");
  return Undefined(env);
}

napi_value Stream::Query(napi_env env, napi_callback_info info, unsigned long request, const char* name) {
  Call call(env, info);
  auto* stream = PortFrom<Stream>(call);
  if (stream == nullptr) return nullptr;
  int bytes = 0;
  if (ioctl(stream->fd(), request, &bytes) < 0) return ThrowErrno(env, errno, name);
  return Number(env, bytes);
}

napi_value Stream::UnsentBytes(napi_env env, napi_callback_info info) {
  return Query(env, info, SIOCOUTQ, "SIOCOUTQ");
}

napi_value Stream::UnreadBytes(napi_env env, napi_callback_info info) {
  return Query(env, info, FIONREAD, "FIONREAD");
}

// setSendBuffer(bytes)
napi_value Stream::SetSendBuffer(napi_env env, napi_callback_info info) {
  Call call(env, info);
  uint32_t bytes;
  auto* stream = PortFrom<Stream>(call);
  if (stream == nullptr || !call.GetCount(0, &bytes)) return nullptr;
  if (bytes > INT_MAX) return ThrowRange(env, "a send buffer has at most 2^31 - 1 bytes");
  const int value = static_cast<int>(bytes);
  if (setsockopt(stream->fd(), SOL_SOCKET, SO_SNDBUF, &value, sizeof value) != 0)
    return ThrowErrno(env, errno, "SO_SNDBUF");
  return Undefined(env);
}

}  // namespace

napi_value AdoptStream(napi_env env, napi_callback_info info) {
  static const Method methods[] = {{"read", Stream::Read},
                                   {"write", Stream::Write},
                                   {"finish", Stream::Finish},
                                   {"unsentBytes", Stream::UnsentBytes},
                                   {"unreadBytes", Stream::UnreadBytes},
                                   {"setSendBuffer", Stream::SetSendBuffer}};
  Call call(env, info);
  uint32_t given;
  if (!call.GetCount(0, &given)) return nullptr;
  if (given > INT_MAX) return ThrowRange(env, "no such descriptor");
  const int fd = fcntl(static_cast<int>(given), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return ThrowErrno(env, errno, "dup");
  auto stream = std::make_unique<Stream>(fd);

  int type = 0, domain = 0;
  socklen_t length = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return ThrowErrno(env, errno, "SO_TYPE");
  length = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0)
    return ThrowErrno(env, errno, "SO_DOMAIN");
  if (type != SOCK_STREAM) return ThrowErrno(env, EPROTOTYPE, "SO_TYPE");
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return ThrowErrno(env, errno, "O_NONBLOCK");
  if (domain == AF_INET || domain == AF_INET6) {
    const int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
      return ThrowErrno(env, errno, "TCP_NODELAY");
  }
  napi_value object = Port::Wrap(env, std::move(stream));
  if (object != nullptr) DefineMethods(env, object, methods, sizeof methods / sizeof *methods);
  return object;
}

}  // namespace colo
