#include <algorithm>

#include "base/json.h"
#include "cli/checkup.h"
#include "cli/handlers.h"
#include "cli/settings_from.h"
#include "server/memory_shares.h"
#include "server/node.h"

namespace pyralog::cli {

namespace {

std::string to_json(const std::vector<Check>& checks, bool ok) {
  JsonWriter json;
  json.object().field("ok", ok).key("checks").array();
  for (const Check& check : checks) {
    json.object()
        .field("check", check.name)
        .field("health", to_text(check.health))
        .field("what", check.what);
    if (!check.remedy.empty()) json.field("remedy", check.remedy);
    for (const auto& [name, value] : check.numbers) json.field(name, value);
    json.end();
  }
  return json.end().end().take() + "\n";
}

std::string to_lines(const std::vector<Check>& checks) {
  std::string out;
  for (const Check& check : checks) {
    std::string health = to_text(check.health);
    health.resize(9, ' ');
    out += health + check.name + ": " + check.what + "\n";
    if (!check.remedy.empty()) out += "         -> " + check.remedy + "\n";
  }
  return out;
}

}  // namespace

Outcome doctor(const Args& args, Console& console) {
  const auto loaded = server::load_settings(sources_from(args));
  if (!loaded) return std::unexpected<Failure>(Failure(loaded.error(), 2));
  const auto plan = server::plan_listeners(loaded->options);
  if (!plan) return std::unexpected<Failure>(Failure(plan.error(), 2));
  if (const auto fine = check_secret(loaded->options); !fine) {
    return std::unexpected<Failure>(Failure(fine.error(), 2));
  }
  std::vector<Machine::Port> ports;
  if (plan->kafka) ports.push_back({"kafka", *plan->kafka});
  if (plan->http) ports.push_back({"http", *plan->http});
  if (plan->peer) ports.push_back({"peer", *plan->peer});
  Needs needs;
  needs.segment_bytes = static_cast<std::uint64_t>(loaded->options.segment_bytes);
  const auto memory = server::share_memory(loaded->options);
  if (!memory) return std::unexpected<Failure>(Failure(memory.error(), 2));
  needs.memory_bytes = memory->all;
  const Machine machine = look_at_machine(loaded->options.data_dir, std::move(ports));
  needs.min_free_bytes = server::space_floor(loaded->options, machine.disk.total_bytes);
  const auto checks = check_up(machine, needs);
  std::string problems;
  for (const Check& check : checks) {
    if (check.health != Health::kProblem) continue;
    problems += (problems.empty() ? "" : ", ") + check.name;
  }
  print(console.out, args.flag("json") ? to_json(checks, problems.empty()) : to_lines(checks));
  if (problems.empty()) return {};
  return std::unexpected<Failure>(Error{
      Code::kUnavailable, "doctor: problems: " + problems + "; the lines above say what helps", 0});
}

}  // namespace pyralog::cli
