// Exports that are no frame ports: stream.cc, netlink.cc, notify.cc, confine.cc, quick_ack.cc, kernels.cc.
#pragma once

#include <node_api.h>

namespace colo {

napi_value AdoptStream(napi_env env, napi_callback_info info);
napi_value OpenNetlink(napi_env env, napi_callback_info info);
napi_value NotifySystemd(napi_env env, napi_callback_info info);
napi_value ExecuteConfined(napi_env env, napi_callback_info info);
napi_value AcknowledgeAtOnce(napi_env env, napi_callback_info info);
napi_value FirstDifference(napi_env env, napi_callback_info info);
napi_value Sum16(napi_env env, napi_callback_info info);

}  // namespace colo
