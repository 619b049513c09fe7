#include <cstdlib>
#include <string>
#include <string_view>

#include "server/settings.h"

namespace {

using namespace pyralog::server;

/// A configuration file: whatever is in it is taken or refused with a word; what is taken can be written
/// down again and means the same.
void judge_file(std::string_view text) {
  const auto assignments = parse_toml(text, "f.toml");
  if (!assignments) {
    if (assignments.error().message.empty()) std::abort();
    return;
  }
  ServerOptions options;
  for (const Assignment& each : *assignments) {
    const Setting* setting = find_setting(each.key);
    if (setting == nullptr) continue;
    if (const auto done = assign(options, *setting, each.value, each.origin); !done) {
      if (done.error().message.find(setting->key) == std::string::npos) std::abort();
      continue;
    }
    ServerOptions again;
    if (!assign(again, *setting, value_of(options, *setting), "again")) std::abort();
    if (value_of(again, *setting) != value_of(options, *setting)) std::abort();
  }
  (void)plan_listeners(options);
}

/// One setting, chosen by the first byte, with any text.
void judge_value(std::uint8_t which, std::string_view text) {
  const auto all = settings();
  const Setting& setting = all[which % all.size()];
  ServerOptions options;
  if (!assign(options, setting, text, "option")) return;
  ServerOptions again;
  if (!assign(again, setting, value_of(options, setting), "again")) std::abort();
  if (value_of(again, setting) != value_of(options, setting)) std::abort();
  (void)plan_listeners(options);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] < 128) {
    judge_file(text);
  } else {
    judge_value(static_cast<std::uint8_t>(data[0] - 128), text);
  }
  return 0;
}
