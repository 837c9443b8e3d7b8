// What belongs to one environment (the main thread's, or a worker's): its open ports, the handles that libuv
// is still closing, and the descriptors that are being closed aside. It frees itself when the environment has
// ended and nothing is left.
#pragma once

#include <node_api.h>
#include <uv.h>

namespace colo {

class Port;

class Environment {
 public:
  static bool Create(napi_env env);
  static Environment* Of(napi_env env);

  napi_env env() const { return env_; }
  uv_loop_t* loop() const { return loop_; }
  napi_async_context async_context() const { return async_context_; }

  void Add(Port* port);
  void Remove(Port* port);

  // Every HandleOpened holds the environment until its HandleClosed.
  void HandleOpened() { handles_++; }
  void HandleClosed();

  // Closes a descriptor that nothing watches any more, in a thread of libuv's pool. False: kClosesAsideMax of
  // them are on their way or the environment is ending; the caller closes it.
  bool CloseAside(int fd);

  void SetBusyPoll(uint64_t for_ns) { busy_for_ns_ = for_ns; }
  // Something was to be read: more may follow soon.
  void Stir();

 private:
  struct Closure;

  Environment() = default;
  static void Cleanup(napi_async_cleanup_hook_handle, void* data);
  static void Released(napi_env, void* data, void*);
  static void LookForEvents(uv_prepare_t* handle);
  void MaybeFinish();

  napi_env env_ = nullptr;
  uv_loop_t* loop_ = nullptr;
  napi_async_context async_context_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  Port* ports_ = nullptr;
  size_t handles_ = 0;
  size_t closes_aside_ = 0;
  uv_prepare_t busy_poll_;
  uint64_t busy_for_ns_ = 0;
  uint64_t busy_until_ns_ = 0;
  bool ending_ = false;
  bool released_ = false;
};

}  // namespace colo
