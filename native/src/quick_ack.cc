// TCP's delayed acknowledgement, put off for one connection (tcp(7), TCP_QUICKACK).
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "call.h"
#include "errors.h"
#include "system_ports.h"

namespace colo {

// acknowledgeAtOnce(fd)
napi_value AcknowledgeAtOnce(napi_env env, napi_callback_info info) {
  Call call(env, info);
  uint32_t fd = 0;
  if (!call.GetCount(0, &fd)) return nullptr;
  const int on = 1;
  if (setsockopt(static_cast<int>(fd), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on) < 0)
    return ThrowErrno(env, errno, "setsockopt TCP_QUICKACK");
  return Undefined(env);
}

}  // namespace colo
