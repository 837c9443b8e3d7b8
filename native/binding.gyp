{
  "target_defaults": {
    "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
    "cflags": ["-Wall", "-Wextra", "-fvisibility=hidden"],
    "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fexceptions"]
  },
  "targets": [
    {
      "target_name": "colo_native",
      "sources": [
        "src/addon.cc",
        "src/call.cc",
        "src/confine.cc",
        "src/environment.cc",
        "src/errors.cc",
        "src/frame_port.cc",
        "src/kernels.cc",
        "src/netlink.cc",
        "src/notify.cc",
        "src/packet_socket.cc",
        "src/port.cc",
        "src/quick_ack.cc",
        "src/stream.cc",
        "src/tap.cc"
      ]
    },
    {
      "target_name": "colo_test_namespace",
      "sources": ["test-support/namespace.cc"]
    }
  ]
}
