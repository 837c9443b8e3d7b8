// What a TAP and a packet socket have in common: whole Ethernet frames in batches, into and out of one slab.
#pragma once

#include <stdint.h>

#include <memory>
#include <string>

#include "port.h"

namespace colo {

// struct virtio_net_hdr without num_buffers (linux/virtio_net.h): flags, gso_type, then little-endian 16-bit
// hdr_len, gso_size, csum_start, csum_offset.
constexpr uint32_t kVnetHeaderBytes = 10;

// Every slot starts with this much room: a frame is received at slot + 16, its vnet header directly before;
// putting a VLAN tag back moves the start 4 bytes down.
constexpr uint32_t kSlotOverheadBytes = 16;

// A receive call ends with the frame that passes this.
constexpr uint64_t kBytesPerReceive = 256 * 1024;

class FramePort : public Port {
 public:
  static constexpr Kind kKind = Kind::kFrame;

  FramePort(int fd, std::string interface_name, int interface_index, bool vnet_header,
            Closing closing = Closing::kAtOnce)
      : Port(kKind, fd, closing),
        interface_name_(std::move(interface_name)),
        interface_index_(interface_index),
        vnet_bytes_(vnet_header ? kVnetHeaderBytes : 0) {}

  static napi_value Wrap(napi_env env, std::unique_ptr<FramePort> port);

  const std::string& interface_name() const override { return interface_name_; }

 protected:
  struct Statistics {
    uint64_t packets = 0;
    uint64_t drops = 0;
    uint64_t truncated = 0;
    uint64_t undescribable = 0;
    uint64_t send_errors = 0;
    int last_send_error = 0;
  };

  // Frames to be received: the k-th goes to slot k, so `received` is also the next free slot.
  struct Slots {
    uint8_t* slab;
    uint32_t slot_bytes;
    int32_t* offsets;
    int32_t* lengths;
    uint32_t wanted;
    uint32_t received = 0;
    uint64_t bytes = 0;

    // More would drive what came first out of the processor's caches before it is looked at.
    bool full() const { return received == wanted || bytes >= kBytesPerReceive; }
    uint32_t frame_bytes_max() const { return slot_bytes - kSlotOverheadBytes; }
    // Where the frame of a slot is received.
    uint8_t* Frame(uint32_t slot) const { return slab + size_t{slot} * slot_bytes + kSlotOverheadBytes; }
    // The frame in slot `received` starts at `frame`.
    void Accept(const uint8_t* frame, uint32_t length) {
      offsets[received] = static_cast<int32_t>(frame - slab);
      lengths[received] = static_cast<int32_t>(length);
      received++;
      bytes += length;
    }
  };

  // Frames to be sent, already checked to lie inside the slab with their headers.
  struct Frames {
    const uint8_t* slab;
    const int32_t* offsets;
    const int32_t* lengths;
    uint32_t header_bytes;  // of vnet header before each offset: 0 or 10
    uint32_t count;
  };

  // Receives until `slots` are full or nothing seems to be left; with no frame received, nothing is. Returns
  // 0, or the errno that ended it.
  virtual int Receive(Slots* slots) = 0;

  // Sends from the front; `*taken` counts frames done with. Returns 0, EAGAIN when the kernel's queue is
  // full, or the errno that ended it.
  virtual int Send(const Frames& frames, uint32_t* taken) = 0;

  virtual void UpdateStatistics() {}
  virtual const char* receive_syscall() const = 0;
  virtual const char* send_syscall() const = 0;

  // What becomes of a frame that the kernel refused.
  enum class Refusal { kQueueFull, kFrame, kPort };
  static Refusal Classify(int error_number);
  void CountSendError(int error_number);

  uint32_t vnet_bytes() const { return vnet_bytes_; }
  Statistics statistics_;

 private:
  static napi_value ReceiveMethod(napi_env env, napi_callback_info info);
  static napi_value SendMethod(napi_env env, napi_callback_info info);
  static napi_value StatisticsMethod(napi_env env, napi_callback_info info);

  int TakePendingError();

  const std::string interface_name_;
  const int interface_index_;
  const uint32_t vnet_bytes_;
  // An error met after some frames had been done with: the next call reports it.
  int pending_error_ = 0;
};

// Unusable frames dropped by one receive call at most, so that a flood of them cannot hold the thread.
constexpr uint32_t kDropsPerReceiveMax = 1024;

// Opening, in tap.cc and packet_socket.cc.
napi_value OpenTap(napi_env env, napi_callback_info info);
napi_value CreatePersistentTap(napi_env env, napi_callback_info info);
napi_value RemoveTap(napi_env env, napi_callback_info info);
napi_value OpenPacketSocket(napi_env env, napi_callback_info info);
napi_value AdoptTap(napi_env env, napi_callback_info info);
napi_value AdoptPacketSocket(napi_env env, napi_callback_info info);

}  // namespace colo
