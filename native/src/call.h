// Checked access to the arguments of one call from JavaScript. Every getter that returns false has thrown.
#pragma once

#include <node_api.h>
#include <stdint.h>

#include <string>

namespace colo {

// Bytes of a Uint8Array; valid only during the call.
struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;

  // Whether [offset, offset + count) lies inside.
  bool Holds(uint64_t offset, uint64_t count) const { return offset <= length && count <= length - offset; }
};

// Elements of an Int32Array; valid only during the call.
struct Column {
  int32_t* data = nullptr;
  size_t length = 0;
};

class Call {
 public:
  static constexpr size_t kArgumentsMax = 6;

  Call(napi_env env, napi_callback_info info);

  napi_env env() const { return env_; }
  napi_value self() const { return self_; }
  // Arguments not given are undefined.
  napi_value operator[](size_t index) const { return arguments_[index]; }

  bool GetBytes(size_t index, Bytes* out) const;
  bool GetColumn(size_t index, Column* out) const;
  // An integer from 0 to 2^32 - 1.
  bool GetCount(size_t index, uint32_t* out) const;
  bool GetString(size_t index, std::string* out) const;
  bool GetFunction(size_t index, napi_value* out) const;

 private:
  napi_env env_;
  napi_value self_ = nullptr;
  napi_value arguments_[kArgumentsMax];
};

// Checked access to the members of an options object. A member that is absent or undefined leaves `*out` as
// it is; one of the wrong type throws.
class Options {
 public:
  // Throws unless `value` is an object.
  static bool From(napi_env env, napi_value value, Options* out);

  bool Get(const char* key, std::string* out) const;
  bool Get(const char* key, bool* out) const;
  // An integer from 0 to 2^31 - 1. `*present`, when given, tells whether there was one.
  bool Get(const char* key, int32_t* out, bool* present = nullptr) const;

 private:
  // True with a null value: absent. False: it has thrown.
  bool Member(const char* key, napi_value* out) const;

  napi_env env_ = nullptr;
  napi_value object_ = nullptr;
};

// A string without NUL bytes (they would cut names short in system calls).
bool ToString(napi_env env, napi_value value, const char* what, std::string* out);

napi_value Number(napi_env env, double value);
napi_value Undefined(napi_env env);

struct Method {
  const char* name;
  napi_callback function;
};
void DefineMethods(napi_env env, napi_value object, const Method* methods, size_t count);

}  // namespace colo
