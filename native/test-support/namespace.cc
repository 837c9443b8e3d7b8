// For tests only: moves the calling thread into a network namespace, so that one test can hold sockets in
// several. Not part of the addon that the proxy loads.
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

// enterNamespace(path): a file such as /run/netns/NAME or /proc/self/ns/net.
static napi_value EnterNamespace(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  char path[256];
  size_t length;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  if (napi_get_value_string_utf8(env, argument, path, sizeof path, &length) != napi_ok) {
    napi_throw_type_error(env, nullptr, "path must be a string");
    return nullptr;
  }
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const int result = fd < 0 ? -1 : setns(fd, CLONE_NEWNET);
  const int error = errno;
  if (fd >= 0) close(fd);
  if (result != 0) napi_throw_error(env, nullptr, strerror(error));
  return nullptr;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "enterNamespace", NAPI_AUTO_LENGTH, EnterNamespace, nullptr, &function);
  napi_set_named_property(env, exports, "enterNamespace", function);
  return exports;
}
