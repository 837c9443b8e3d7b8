// The process begun anew with fewer capabilities (capabilities(7)). They belong to threads, and Node.js has
// several before any script runs: only execve(2) leaves none behind.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "call.h"
#include "errors.h"
#include "system_ports.h"

namespace colo {
namespace {

// A list of strings; false when it is something else.
bool ListOf(napi_env env, napi_value value, std::vector<std::string>* out) {
  uint32_t count = 0;
  if (napi_get_array_length(env, value, &count) != napi_ok) return false;
  for (uint32_t index = 0; index < count; index++) {
    napi_value item;
    size_t length = 0;
    if (napi_get_element(env, value, index, &item) != napi_ok) return false;
    if (napi_get_value_string_utf8(env, item, nullptr, 0, &length) != napi_ok) return false;
    std::string text(length + 1, '\0');
    napi_get_value_string_utf8(env, item, &text[0], text.size(), &length);
    out->push_back(text);
  }
  return !out->empty();
}

}  // namespace

// executeConfined(keptLow, keptHigh, words): returns only by throwing
napi_value ExecuteConfined(napi_env env, napi_callback_info info) {
  Call call(env, info);
  uint32_t kept_low = 0, kept_high = 0;
  std::vector<std::string> list;
  if (!call.GetCount(0, &kept_low) || !call.GetCount(1, &kept_high)) return nullptr;
  if (!ListOf(env, call[2], &list)) return ThrowType(env, "words is a list of strings");
  const uint32_t kept[2] = {kept_low, kept_high};
  std::vector<char*> words;
  for (std::string& word : list) words.push_back(&word[0]);
  words.push_back(nullptr);

  // What the bounding set does not hold, not even root gets by execve.
  for (unsigned long capability = 0; capability < 64; capability++) {
    const int is_there = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (is_there < 0) break;  // this kernel knows no more
    if (is_there == 0 || (kept[capability / 32] >> (capability % 32) & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return ThrowErrno(env, errno, "PR_CAPBSET_DROP");
  }
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2] = {};
  if (syscall(SYS_capget, &header, sets) < 0) return ThrowErrno(env, errno, "capget");
  for (int half = 0; half < 2; half++) sets[half].inheritable &= kept[half];
  if (syscall(SYS_capset, &header, sets) < 0) return ThrowErrno(env, errno, "capset");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return ThrowErrno(env, errno, "PR_SET_NO_NEW_PRIVS");
  // Node.js marks every descriptor it began with to be closed.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) fcntl(fd, F_SETFD, 0);
  execve(words[0], words.data(), environ);
  return ThrowErrno(env, errno, "execve");
}

}  // namespace colo
