#include "port.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "environment.h"
#include "errors.h"

namespace colo {

// Tells our objects from any other `this`.
static const napi_type_tag kPortTag = {0x6f1c0a5d3b7e4c29, 0x91d84e02c6a75bf3};

struct Port::Watch {
  uv_poll_t handle;
  Port* port;
  Environment* environment;
};

bool InitializePorts(napi_env env) { return Environment::Create(env); }

Port::~Port() { Close(); }

const std::string& Port::interface_name() const {
  static const std::string none;
  return none;
}

napi_value Port::Wrap(napi_env env, std::unique_ptr<Port> owned) {
  static const Method methods[] = {
      {"start", Start}, {"wantWritable", WantWritable}, {"stop", Stop}, {"close", CloseMethod}};
  static const napi_property_descriptor descriptor = {"fd",    nullptr, nullptr,         Descriptor,
                                                      nullptr, nullptr, napi_enumerable, nullptr};
  napi_value object;
  Port* port = owned.get();
  if (napi_create_object(env, &object) != napi_ok ||
      napi_wrap(env, object, port, Finalize, nullptr, nullptr) != napi_ok) {
    return nullptr;
  }
  owned.release();
  port->env_ = env;
  port->environment_ = Environment::Of(env);
  port->environment_->Add(port);
  napi_type_tag_object(env, object, &kPortTag);
  napi_create_reference(env, object, 0, &port->object_);
  napi_define_properties(env, object, 1, &descriptor);
  DefineMethods(env, object, methods, sizeof methods / sizeof *methods);
  return object;
}

void Port::Finalize(napi_env env, void* data, void*) {
  Port* port = static_cast<Port*>(data);
  port->Close();
  if (port->environment_ != nullptr) port->environment_->Remove(port);
  if (port->object_ != nullptr) napi_delete_reference(env, port->object_);
  delete port;
}

Port* Port::Unwrap(const Call& call) {
  bool ours = false;
  void* data = nullptr;
  if (napi_check_object_type_tag(call.env(), call.self(), &kPortTag, &ours) != napi_ok || !ours ||
      napi_unwrap(call.env(), call.self(), &data) != napi_ok) {
    napi_throw_type_error(call.env(), "ERR_INVALID_THIS", "called on something that is not a port");
    return nullptr;
  }
  return static_cast<Port*>(data);
}

Port* Port::From(const Call& call) {
  Port* port = Unwrap(call);
  if (port == nullptr || port->fd_ >= 0) return port;
  ThrowErrno(call.env(), EBADF, "port", port->interface_name());
  return nullptr;
}

void Port::Close() {
  if (fd_ < 0) return;
  DropCallback(&on_readable_);
  DropCallback(&on_writable_);
  CloseWatch();
  if (closing_ == Closing::kAtOnce || environment_ == nullptr || !environment_->CloseAside(fd_)) close(fd_);
  fd_ = -1;
}

bool Port::SetCallback(napi_ref* slot, napi_value callback) {
  DropCallback(slot);
  return napi_create_reference(env_, callback, 1, slot) == napi_ok;
}

void Port::DropCallback(napi_ref* slot) {
  if (*slot == nullptr) return;
  napi_delete_reference(env_, *slot);
  *slot = nullptr;
}

int Port::UpdateWatch() {
  const int events =
      (on_readable_ != nullptr ? UV_READABLE : 0) | (on_writable_ != nullptr ? UV_WRITABLE : 0);
  int result = 0;
  if (events != 0 && watch_ == nullptr) {
    auto* watch = new Watch();
    result = uv_poll_init(environment_->loop(), &watch->handle, fd_);
    if (result != 0) {
      delete watch;
      return result;
    }
    watch->handle.data = watch;
    watch->port = this;
    watch->environment = environment_;
    watch->environment->HandleOpened();
    watch_ = watch;
  }
  if (watch_ != nullptr) {
    result = events != 0 ? uv_poll_start(&watch_->handle, events, OnReady) : uv_poll_stop(&watch_->handle);
  }
  const bool hold = events != 0 && result == 0;
  if (hold != held_) {
    held_ = hold;
    if (hold)
      napi_reference_ref(env_, object_, nullptr);
    else
      napi_reference_unref(env_, object_, nullptr);
  }
  return result;
}

void Port::CloseWatch() {
  if (watch_ == nullptr) return;
  Watch* watch = watch_;
  watch_ = nullptr;
  watch->port = nullptr;
  // Takes the descriptor out of the loop at once; only the memory waits for the callback.
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->handle), [](uv_handle_t* handle) {
    auto* closed = static_cast<Watch*>(handle->data);
    Environment* environment = closed->environment;
    delete closed;
    environment->HandleClosed();
  });
  if (held_) {
    held_ = false;
    napi_reference_unref(env_, object_, nullptr);
  }
}

void Port::Invoke(napi_ref callback) {
  napi_value function, receiver, result, error;
  bool pending = false;
  if (napi_get_reference_value(env_, callback, &function) != napi_ok || function == nullptr) return;
  napi_get_global(env_, &receiver);
  if (napi_make_callback(env_, environment_->async_context(), receiver, function, 0, nullptr, &result) ==
      napi_ok) {
    return;
  }
  // A failure without an exception: the worker is being torn down and runs no more JavaScript.
  napi_is_exception_pending(env_, &pending);
  if (pending && napi_get_and_clear_last_exception(env_, &error) == napi_ok)
    napi_fatal_exception(env_, error);
}

void Port::OnReady(uv_poll_t* handle, int status, int events) {
  Port* port = static_cast<Watch*>(handle->data)->port;
  if (port == nullptr) return;
  napi_env env = port->env_;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  // The scope holds the object, so the port outlives whatever its callbacks do.
  napi_value object;
  napi_get_reference_value(env, port->object_, &object);

  // libuv has stopped the watch when status is negative (POLLERR): both sides learn of it by their next call.
  if (port->on_writable_ != nullptr && (status < 0 || (events & UV_WRITABLE) != 0)) {
    napi_ref callback = port->on_writable_;
    port->on_writable_ = nullptr;
    port->UpdateWatch();
    port->Invoke(callback);
    napi_delete_reference(env, callback);
  }
  if (port->on_readable_ != nullptr && (status < 0 || (events & UV_READABLE) != 0)) {
    if (port->environment_ != nullptr) port->environment_->Stir();
    port->Invoke(port->on_readable_);
  }
  if (status < 0 && port->fd_ >= 0) {
    // Go on if the error was consumed (a socket whose interface went down may see it come up again); an error
    // that stays, like a TAP's whose interface is gone, would spin.
    struct pollfd now = {port->fd_, POLLIN, 0};
    if (poll(&now, 1, 0) >= 0 && (now.revents & POLLERR) == 0)
      port->UpdateWatch();
    else if (port->watch_ != nullptr)
      uv_poll_stop(&port->watch_->handle);
  }
  napi_close_handle_scope(env, scope);
}

napi_value SetBusyPoll(napi_env env, napi_callback_info info) {
  Call call(env, info);
  uint32_t for_us;
  if (!call.GetCount(0, &for_us)) return nullptr;
  Environment::Of(env)->SetBusyPoll(uint64_t{1000} * for_us);
  return Undefined(env);
}

napi_value Port::Start(napi_env env, napi_callback_info info) {
  Call call(env, info);
  napi_value callback;
  Port* port = From(call);
  if (port == nullptr || !call.GetFunction(0, &callback)) return nullptr;
  port->SetCallback(&port->on_readable_, callback);
  const int result = port->UpdateWatch();
  return result == 0 ? Undefined(env) : ThrowErrno(env, -result, "uv_poll", port->interface_name());
}

napi_value Port::WantWritable(napi_env env, napi_callback_info info) {
  Call call(env, info);
  napi_value callback;
  Port* port = From(call);
  if (port == nullptr || !call.GetFunction(0, &callback)) return nullptr;
  port->SetCallback(&port->on_writable_, callback);
  const int result = port->UpdateWatch();
  return result == 0 ? Undefined(env) : ThrowErrno(env, -result, "uv_poll", port->interface_name());
}

napi_value Port::Stop(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Port* port = From(call);
  if (port == nullptr) return nullptr;
  port->DropCallback(&port->on_readable_);
  port->DropCallback(&port->on_writable_);
  port->UpdateWatch();
  return Undefined(env);
}

napi_value Port::CloseMethod(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Port* port = Unwrap(call);
  if (port == nullptr) return nullptr;
  port->Close();
  return Undefined(env);
}

napi_value Port::Descriptor(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Port* port = Unwrap(call);
  return port == nullptr ? nullptr : Number(env, port->fd_);
}

}  // namespace colo
