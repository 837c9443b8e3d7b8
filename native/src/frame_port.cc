#include "frame_port.h"

#include <errno.h>

#include "errors.h"

namespace colo {

napi_value FramePort::Wrap(napi_env env, std::unique_ptr<FramePort> owned) {
  static const Method methods[] = {
      {"receive", ReceiveMethod}, {"send", SendMethod}, {"statistics", StatisticsMethod}};
  const FramePort* port = owned.get();
  napi_value object = Port::Wrap(env, std::move(owned));
  if (object == nullptr) return nullptr;
  napi_value name;
  napi_create_string_utf8(env, port->interface_name_.data(), port->interface_name_.size(), &name);
  napi_set_named_property(env, object, "interface", name);
  napi_set_named_property(env, object, "interfaceIndex", Number(env, port->interface_index_));
  napi_set_named_property(env, object, "vnetHeaderBytes", Number(env, port->vnet_bytes_));
  DefineMethods(env, object, methods, sizeof methods / sizeof *methods);
  return object;
}

FramePort::Refusal FramePort::Classify(int error_number) {
  switch (error_number) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
      return Refusal::kQueueFull;
    case EMSGSIZE:
    case EINVAL:
    case E2BIG:
    case EOPNOTSUPP:
      return Refusal::kFrame;
    default:
      return Refusal::kPort;
  }
}

int FramePort::TakePendingError() {
  const int error = pending_error_;
  pending_error_ = 0;
  return error;
}

void FramePort::CountSendError(int error_number) {
  statistics_.send_errors++;
  statistics_.last_send_error = error_number;
}

// receive(slab, offsets, lengths, slotBytes, maxFrames)
napi_value FramePort::ReceiveMethod(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Bytes slab;
  Column offsets, lengths;
  uint32_t slot_bytes, frames_max;
  auto* port = PortFrom<FramePort>(call);
  if (port == nullptr || !call.GetBytes(0, &slab) || !call.GetColumn(1, &offsets) ||
      !call.GetColumn(2, &lengths) || !call.GetCount(3, &slot_bytes) || !call.GetCount(4, &frames_max)) {
    return nullptr;
  }
  if (slot_bytes <= kSlotOverheadBytes) return ThrowRange(env, "slotBytes must exceed SLOT_OVERHEAD_BYTES");
  const uint64_t needed = static_cast<uint64_t>(slot_bytes) * frames_max;
  // Offsets are 32-bit signed numbers.
  if (needed > slab.length || needed > INT32_MAX || frames_max > offsets.length ||
      frames_max > lengths.length) {
    return ThrowRange(env, "slab, offsets and lengths must hold maxFrames slots");
  }
  Slots slots = {slab.data, slot_bytes, offsets.data, lengths.data, frames_max};
  int error = port->TakePendingError();
  if (error == 0) error = port->Receive(&slots);
  if (error != 0 && slots.received == 0) {
    return ThrowErrno(env, error, port->receive_syscall(), port->interface_name_);
  }
  port->pending_error_ = error;
  return Number(env, slots.received);
}

// send(slab, offsets, lengths, vnetHeaderBytes, first, count)
napi_value FramePort::SendMethod(napi_env env, napi_callback_info info) {
  Call call(env, info);
  Bytes slab;
  Column offsets, lengths;
  uint32_t header_bytes, first, count;
  auto* port = PortFrom<FramePort>(call);
  if (port == nullptr || !call.GetBytes(0, &slab) || !call.GetColumn(1, &offsets) ||
      !call.GetColumn(2, &lengths) || !call.GetCount(3, &header_bytes) || !call.GetCount(4, &first) ||
      !call.GetCount(5, &count)) {
    return nullptr;
  }
  if (header_bytes != 0 && header_bytes != port->vnet_bytes_) {
    return ThrowRange(env, "vnetHeaderBytes must be 0, or 10 on a port that has vnet headers");
  }
  const uint64_t end = static_cast<uint64_t>(first) + count;
  if (end > offsets.length || end > lengths.length)
    return ThrowRange(env, "offsets and lengths must hold first + count");
  for (uint64_t i = first; i < end; i++) {
    const int64_t start = static_cast<int64_t>(offsets.data[i]) - header_bytes;
    const int64_t length = static_cast<int64_t>(lengths.data[i]) + header_bytes;
    if (start < 0 || lengths.data[i] < 0 || !slab.Holds(start, length)) {
      return ThrowRange(env, "frame " + std::to_string(i) + " does not lie inside the slab");
    }
  }
  const Frames frames = {slab.data, offsets.data + first, lengths.data + first, header_bytes, count};
  uint32_t taken = 0;
  int error = port->TakePendingError();
  if (error == 0) error = port->Send(frames, &taken);
  if (error == EAGAIN) error = 0;
  if (error != 0 && taken == 0) {
    return ThrowErrno(env, error, port->send_syscall(), port->interface_name_);
  }
  port->pending_error_ = error;
  return Number(env, taken);
}

napi_value FramePort::StatisticsMethod(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* port = PortFrom<FramePort>(call);
  if (port == nullptr) return nullptr;
  port->UpdateStatistics();
  const Statistics& statistics = port->statistics_;
  const std::string last = statistics.last_send_error == 0 ? "" : ErrnoName(statistics.last_send_error);
  napi_value result, code;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "packets", Number(env, statistics.packets));
  napi_set_named_property(env, result, "drops", Number(env, statistics.drops));
  napi_set_named_property(env, result, "truncated", Number(env, statistics.truncated));
  napi_set_named_property(env, result, "undescribable", Number(env, statistics.undescribable));
  napi_set_named_property(env, result, "sendErrors", Number(env, statistics.send_errors));
  napi_create_string_utf8(env, last.data(), last.size(), &code);
  napi_set_named_property(env, result, "lastSendError", code);
  return result;
}

}  // namespace colo
