#include "errors.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

namespace colo {

std::string ErrnoName(int error_number) {
  // libuv names the portable ones; EBADFD (a TAP without an interface) is not among them.
  if (error_number == EBADFD) return "EBADFD";
  char name[64];
  uv_err_name_r(-error_number, name, sizeof name);
  return name;
}

static void SetString(napi_env env, napi_value object, const char* key, const std::string& text) {
  napi_value value;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  napi_set_named_property(env, object, key, value);
}

napi_value ThrowErrno(napi_env env, int error_number, const char* syscall,
                      const std::string& interface_name) {
  const std::string code = ErrnoName(error_number);
  char description[128];
  // GNU strerror_r returns the text, which need not be in the buffer it was given.
  std::string message =
      code + ": " + strerror_r(error_number, description, sizeof description) + ", " + syscall;
  if (!interface_name.empty()) message += " '" + interface_name + "'";

  napi_value code_value, message_value, error, errno_value;
  napi_create_string_utf8(env, code.data(), code.size(), &code_value);
  napi_create_string_utf8(env, message.data(), message.size(), &message_value);
  if (napi_create_error(env, code_value, message_value, &error) != napi_ok) return nullptr;
  napi_create_int32(env, -error_number, &errno_value);
  napi_set_named_property(env, error, "errno", errno_value);
  SetString(env, error, "syscall", syscall);
  if (!interface_name.empty()) SetString(env, error, "interface", interface_name);
  napi_throw(env, error);
  return nullptr;
}

napi_value ThrowType(napi_env env, const std::string& message) {
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message.c_str());
  return nullptr;
}

napi_value ThrowRange(napi_env env, const std::string& message) {
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message.c_str());
  return nullptr;
}

}  // namespace colo
