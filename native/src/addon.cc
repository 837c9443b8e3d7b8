// The addon's exports; index.d.ts is their contract.
#include <node_api.h>

#include "call.h"
#include "frame_port.h"
#include "port.h"
#include "system_ports.h"

NAPI_MODULE_INIT() {
  static const colo::Method functions[] = {
      {"openTap", colo::OpenTap},
      {"createPersistentTap", colo::CreatePersistentTap},
      {"removeTap", colo::RemoveTap},
      {"openPacketSocket", colo::OpenPacketSocket},
      {"adoptTap", colo::AdoptTap},
      {"adoptPacketSocket", colo::AdoptPacketSocket},
      {"adoptStream", colo::AdoptStream},
      {"setBusyPoll", colo::SetBusyPoll},
      {"openNetlink", colo::OpenNetlink},
      {"firstDifference", colo::FirstDifference},
      {"sum16", colo::Sum16},
      {"notifySystemd", colo::NotifySystemd},
      {"executeConfined", colo::ExecuteConfined},
      {"acknowledgeAtOnce", colo::AcknowledgeAtOnce},
  };
  if (!colo::InitializePorts(env)) {
    napi_throw_error(env, "ERR_ADDON_INIT", "the native addon could not be set up in this environment");
    return nullptr;
  }
  napi_set_named_property(env, exports, "SLOT_OVERHEAD_BYTES", colo::Number(env, colo::kSlotOverheadBytes));
  napi_set_named_property(env, exports, "VNET_HEADER_BYTES", colo::Number(env, colo::kVnetHeaderBytes));
  colo::DefineMethods(env, exports, functions, sizeof functions / sizeof *functions);
  return exports;
}
