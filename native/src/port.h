// A Port owns one descriptor and its readiness watch, and is the native half of one JavaScript object.
//
// Lifetimes: the JavaScript object owns the Port (finalizer); a started Port keeps its object alive; the uv
// handle lives on the heap until libuv has closed it. When the environment ends (process or worker) the
// cleanup hook closes what is still open and holds the environment until libuv is done with it.
#pragma once

#include <node_api.h>
#include <uv.h>

#include <memory>
#include <string>

#include "call.h"

namespace colo {

class Environment;

class Port {
 public:
  enum class Kind { kFrame, kStream, kNetlink };

  // kAside: the kernel makes close(2) of it wait, and frames of other ports must not wait for that.
  enum class Closing { kAtOnce, kAside };

  // Takes `fd` over at once, whatever becomes of the rest.
  Port(Kind kind, int fd, Closing closing = Closing::kAtOnce) : kind_(kind), closing_(closing), fd_(fd) {}
  virtual ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // Makes the JavaScript object, with the methods all ports have, and gives `port` to it. Null: it has
  // thrown.
  static napi_value Wrap(napi_env env, std::unique_ptr<Port> port);

  // The open port behind `this`; null: it has thrown (TypeError for another kind of object, EBADF once
  // closed).
  static Port* From(const Call& call);

  Kind kind() const { return kind_; }
  int fd() const { return fd_; }
  // Named in errors; empty for what is no interface.
  virtual const std::string& interface_name() const;

  // Stops watching and closes the descriptor, here or aside. Idempotent.
  void Close();

 private:
  friend class Environment;
  struct Watch;

  static Port* Unwrap(const Call& call);
  static void Finalize(napi_env env, void* data, void* hint);
  static void OnReady(uv_poll_t* handle, int status, int events);

  static napi_value Start(napi_env env, napi_callback_info info);
  static napi_value WantWritable(napi_env env, napi_callback_info info);
  static napi_value Stop(napi_env env, napi_callback_info info);
  static napi_value CloseMethod(napi_env env, napi_callback_info info);
  static napi_value Descriptor(napi_env env, napi_callback_info info);

  bool SetCallback(napi_ref* slot, napi_value callback);
  void DropCallback(napi_ref* slot);
  // Watches for what there are callbacks for, and keeps the object alive meanwhile. Returns a uv error or 0.
  int UpdateWatch();
  void CloseWatch();
  void Invoke(napi_ref callback);

  const Kind kind_;
  const Closing closing_;
  int fd_;
  napi_env env_ = nullptr;
  Environment* environment_ = nullptr;
  Watch* watch_ = nullptr;
  napi_ref object_ = nullptr;  // weak unless watching
  bool held_ = false;
  napi_ref on_readable_ = nullptr;
  napi_ref on_writable_ = nullptr;
  // List of the environment's ports.
  Port* previous_ = nullptr;
  Port* next_ = nullptr;
};

// `T` must have `static constexpr Port::Kind kKind`.
template <typename T>
T* PortFrom(const Call& call) {
  Port* port = Port::From(call);
  if (port == nullptr) return nullptr;
  if (port->kind() != T::kKind) {
    napi_throw_type_error(call.env(), "ERR_INVALID_THIS", "called on another kind of port");
    return nullptr;
  }
  return static_cast<T*>(port);
}

// Once per environment, before anything else.
bool InitializePorts(napi_env env);

// setBusyPoll(us)
napi_value SetBusyPoll(napi_env env, napi_callback_info info);

}  // namespace colo
