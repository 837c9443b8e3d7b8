// The service manager's notification datagram (sd_notify(3)).
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>

#include "call.h"
#include "errors.h"
#include "system_ports.h"

namespace colo {

// notifySystemd(socketPath, text)
napi_value NotifySystemd(napi_env env, napi_callback_info info) {
  Call call(env, info);
  std::string path, text;
  if (!call.GetString(0, &path) || !call.GetString(1, &text)) return nullptr;
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return ThrowRange(env, "socketPath has 1 to 107 bytes");
  memcpy(address.sun_path, path.data(), path.size());
  // An abstract name starts with NUL and has no end mark.
  const bool abstract = path[0] == '@';
  if (abstract) address.sun_path[0] = '\0';
  const socklen_t length =
      static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));

  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ThrowErrno(env, errno, "socket");
  // Never waits: a service manager that does not read must not stop its service.
  const ssize_t put = sendto(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                             reinterpret_cast<struct sockaddr*>(&address), length);
  const int error = errno;
  close(fd);
  return put < 0 ? ThrowErrno(env, error, "sendto") : Undefined(env);
}

}  // namespace colo
