#include "environment.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "port.h"

namespace colo {

// Each may hold what its socket had received: a limit in memory, too.
constexpr size_t kClosesAsideMax = 16;

struct Environment::Closure {
  uv_work_t work;
  Environment* environment;
  int fd;
};

Environment* Environment::Of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Environment*>(data);
}

bool Environment::Create(napi_env env) {
  auto* environment = new Environment();
  napi_value name;
  environment->env_ = env;
  if (napi_get_uv_event_loop(env, &environment->loop_) != napi_ok ||
      napi_create_string_utf8(env, "colo-proxy:port", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, nullptr, name, &environment->async_context_) != napi_ok ||
      napi_set_instance_data(env, environment, Released, nullptr) != napi_ok) {
    delete environment;
    return false;
  }
  if (napi_add_async_cleanup_hook(env, Cleanup, environment, &environment->hook_) != napi_ok) return false;
  uv_prepare_init(environment->loop_, &environment->busy_poll_);
  uv_unref(reinterpret_cast<uv_handle_t*>(&environment->busy_poll_));
  environment->busy_poll_.data = environment;
  environment->HandleOpened();
  return true;
}

void Environment::Add(Port* port) {
  port->next_ = ports_;
  if (ports_ != nullptr) ports_->previous_ = port;
  ports_ = port;
}

void Environment::Remove(Port* port) {
  if (port->previous_ != nullptr) port->previous_->next_ = port->next_;
  if (port->next_ != nullptr) port->next_->previous_ = port->previous_;
  if (ports_ == port) ports_ = port->next_;
  port->previous_ = port->next_ = nullptr;
}

void Environment::HandleClosed() {
  handles_--;
  MaybeFinish();
}

bool Environment::CloseAside(int fd) {
  if (ending_ || closes_aside_ == kClosesAsideMax) return false;
  auto* closure = new Closure{{}, this, fd};
  closure->work.data = closure;
  const int result = uv_queue_work(
      loop_, &closure->work, [](uv_work_t* work) { close(static_cast<Closure*>(work->data)->fd); },
      [](uv_work_t* work, int) {
        auto* done = static_cast<Closure*>(work->data);
        Environment* environment = done->environment;
        delete done;
        environment->closes_aside_--;
        environment->HandleClosed();
      });
  if (result != 0) {
    delete closure;
    return false;
  }
  closes_aside_++;
  HandleOpened();
  return true;
}

void Environment::Stir() {
  if (busy_for_ns_ == 0 || ending_) return;
  busy_until_ns_ = uv_hrtime() + busy_for_ns_;
  uv_prepare_start(&busy_poll_, LookForEvents);
}

// Before libuv sleeps: asks without sleeping, until there are events of any kind or a timer is due.
void Environment::LookForEvents(uv_prepare_t* handle) {
  const auto* environment = static_cast<Environment*>(handle->data);
  const uint64_t now_ns = uv_hrtime();
  if (now_ns >= environment->busy_until_ns_) {
    uv_prepare_stop(handle);
    return;
  }
  const int timeout_ms = uv_backend_timeout(handle->loop);
  uint64_t until_ns = environment->busy_until_ns_;
  if (timeout_ms >= 0) until_ns = std::min(until_ns, now_ns + uint64_t{1000000} * timeout_ms);
  struct pollfd events = {uv_backend_fd(handle->loop), POLLIN, 0};
  while (uv_hrtime() < until_ns && poll(&events, 1, 0) == 0) continue;
  // Timers are counted from here.
  uv_update_time(handle->loop);
}

void Environment::Cleanup(napi_async_cleanup_hook_handle, void* data) {
  auto* environment = static_cast<Environment*>(data);
  environment->ending_ = true;
  for (Port* port = environment->ports_; port != nullptr; port = port->next_) port->Close();
  uv_close(reinterpret_cast<uv_handle_t*>(&environment->busy_poll_),
           [](uv_handle_t* handle) { static_cast<Environment*>(handle->data)->HandleClosed(); });
  napi_async_destroy(environment->env_, environment->async_context_);
  environment->MaybeFinish();
}

void Environment::Released(napi_env, void* data, void*) {
  auto* environment = static_cast<Environment*>(data);
  environment->released_ = true;
  environment->MaybeFinish();
}

void Environment::MaybeFinish() {
  if (!ending_ || handles_ != 0) return;
  napi_async_cleanup_hook_handle hook = hook_;
  hook_ = nullptr;
  if (released_) {
    // Ports that are left are memory which the finalizers will free: they must not refer to this any more.
    for (Port* port = ports_; port != nullptr; port = port->next_) port->environment_ = nullptr;
    delete this;
  }
  if (hook != nullptr) napi_remove_async_cleanup_hook(hook);
}

}  // namespace colo
