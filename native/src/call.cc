#include "call.h"

#include "errors.h"

namespace colo {

Call::Call(napi_env env, napi_callback_info info) : env_(env) {
  size_t count = kArgumentsMax;
  napi_get_cb_info(env, info, &count, arguments_, &self_, nullptr);
}

bool Call::GetBytes(size_t index, Bytes* out) const {
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_typedarray_info(env_, arguments_[index], &type, &out->length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != napi_uint8_array) {
    ThrowType(env_, "argument " + std::to_string(index) + " must be a Uint8Array");
    return false;
  }
  out->data = static_cast<uint8_t*>(data);
  return true;
}

bool Call::GetColumn(size_t index, Column* out) const {
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_typedarray_info(env_, arguments_[index], &type, &out->length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != napi_int32_array) {
    ThrowType(env_, "argument " + std::to_string(index) + " must be an Int32Array");
    return false;
  }
  out->data = static_cast<int32_t*>(data);
  return true;
}

bool Call::GetCount(size_t index, uint32_t* out) const {
  double value;
  if (napi_get_value_double(env_, arguments_[index], &value) != napi_ok) {
    ThrowType(env_, "argument " + std::to_string(index) + " must be a number");
    return false;
  }
  // Written so that NaN fails too.
  if (!(value >= 0 && value <= UINT32_MAX) || value != static_cast<uint32_t>(value)) {
    ThrowRange(env_, "argument " + std::to_string(index) + " must be an integer from 0 to 4294967295");
    return false;
  }
  *out = static_cast<uint32_t>(value);
  return true;
}

bool Call::GetString(size_t index, std::string* out) const {
  return ToString(env_, arguments_[index], ("argument " + std::to_string(index)).c_str(), out);
}

bool Call::GetFunction(size_t index, napi_value* out) const {
  napi_valuetype type;
  if (napi_typeof(env_, arguments_[index], &type) != napi_ok || type != napi_function) {
    ThrowType(env_, "argument " + std::to_string(index) + " must be a function");
    return false;
  }
  *out = arguments_[index];
  return true;
}

bool Options::From(napi_env env, napi_value value, Options* out) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object) {
    ThrowType(env, "options must be an object");
    return false;
  }
  out->env_ = env;
  out->object_ = value;
  return true;
}

bool Options::Member(const char* key, napi_value* out) const {
  napi_valuetype type;
  // Fails with the exception pending when a getter throws.
  if (napi_get_named_property(env_, object_, key, out) != napi_ok) return false;
  if (napi_typeof(env_, *out, &type) != napi_ok) return false;
  if (type == napi_undefined) *out = nullptr;
  return true;
}

bool Options::Get(const char* key, std::string* out) const {
  napi_value value;
  if (!Member(key, &value)) return false;
  return value == nullptr || ToString(env_, value, key, out);
}

bool Options::Get(const char* key, bool* out) const {
  napi_value value;
  if (!Member(key, &value)) return false;
  if (value == nullptr || napi_get_value_bool(env_, value, out) == napi_ok) return true;
  ThrowType(env_, std::string(key) + " must be a boolean");
  return false;
}

bool Options::Get(const char* key, int32_t* out, bool* present) const {
  napi_value value;
  double number;
  if (!Member(key, &value)) return false;
  if (present != nullptr) *present = value != nullptr;
  if (value == nullptr) return true;
  if (napi_get_value_double(env_, value, &number) != napi_ok) {
    ThrowType(env_, std::string(key) + " must be a number");
    return false;
  }
  if (!(number >= 0 && number <= INT32_MAX) || number != static_cast<int32_t>(number)) {
    ThrowRange(env_, std::string(key) + " must be an integer from 0 to 2147483647");
    return false;
  }
  *out = static_cast<int32_t>(number);
  return true;
}

bool ToString(napi_env env, napi_value value, const char* what, std::string* out) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) {
    ThrowType(env, std::string(what) + " must be a string");
    return false;
  }
  out->resize(length + 1);
  napi_get_value_string_utf8(env, value, &(*out)[0], length + 1, &length);
  out->resize(length);
  if (out->find('\0') != std::string::npos) {
    ThrowRange(env, std::string(what) + " must not hold NUL bytes");
    return false;
  }
  return true;
}

napi_value Number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

napi_value Undefined(napi_env env) {
  napi_value result;
  napi_get_undefined(env, &result);
  return result;
}

void DefineMethods(napi_env env, napi_value object, const Method* methods, size_t count) {
  for (size_t i = 0; i < count; i++) {
    napi_value function;
    napi_create_function(env, methods[i].name, NAPI_AUTO_LENGTH, methods[i].function, nullptr, &function);
    napi_set_named_property(env, object, methods[i].name, function);
  }
}

}  // namespace colo
