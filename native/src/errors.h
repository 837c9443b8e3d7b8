// How native code fails: always a pending JavaScript exception and a null return, never a C++ exception
// (the addon is built without them), so that nothing can cross a libuv callback.
#pragma once

#include <node_api.h>

#include <string>

namespace colo {

// Short name of an errno value: "EPERM", "ENETDOWN" ...
std::string ErrnoName(int error_number);

// Throws the NativeError of index.d.ts: code, errno (negative), syscall and, when not empty, interface.
napi_value ThrowErrno(napi_env env, int error_number, const char* syscall,
                      const std::string& interface_name = std::string());

napi_value ThrowType(napi_env env, const std::string& message);
napi_value ThrowRange(napi_env env, const std::string& message);

}  // namespace colo
