// Who belongs to a cluster.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/handlers.h"
#include "cli/with_client.h"
#include "client/admin.h"
#include "server/cluster_settings.h"

namespace pyralog::cli {

namespace {

using client::Admin;
using client::MemberChange;
using client::MemberNode;


/// How the node is started, on an empty directory.
std::string start_line(const MemberNode& node, const std::vector<MemberNode>& others) {
  std::string members;
  for (const MemberNode& each : others) {
    if (each.node == node.node || each.host.empty()) continue;
    if (!members.empty()) members += ',';
    members += std::to_string(each.node) + "@" +
               io::to_string(io::Address{each.host, static_cast<std::uint16_t>(each.port)});
  }
  return "pyralog serve --node-id " + std::to_string(node.node) + " --cluster " + members + " --peer " +
         io::to_string(io::Address{node.host, static_cast<std::uint16_t>(node.port)}) +
         " --cluster-secret-file FILE --data-dir DIR";
}

std::string told(std::int32_t node, const char* state, const std::string& start, const Args& args,
                 const std::string& text) {
  if (!args.flag("json")) return text;
  nlohmann::json out{{"node", node}, {"state", state}};
  if (!start.empty()) out["start"] = start;
  return out.dump() + "\n";
}

Outcome change_known(const Args& args, Console& console, const std::string& command,
                     MemberChange change, const char* state, const std::string& text) {
  const auto number = args.number("NODE", 0, 1, std::numeric_limits<std::int32_t>::max());
  if (!number) {
    return usage(command + ": \"" + args.text("NODE") +
                 "\" is no node's id; give one such as 3");
  }
  const auto node = static_cast<std::int32_t>(*number);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        MemberNode member;
        member.node = node;
        PYRALOG_CO_TRY(co_await Admin(cluster).change_member(member, change, deadline));
        print(console.out, told(node, state, "", args, "node " + std::to_string(node) + " " + text + "\n"));
        co_return Result<void>();
      });
}

}  // namespace

Outcome cluster_add(const Args& args, Console& console) {
  const std::string text = args.text("NODE@HOST:PORT");
  const auto members = server::parse_members(text);
  if (!members || members->size() != 1) {
    return usage("cluster add: " + (members ? "\"" + text + "\" names several nodes; add one at a time"
                                            : members.error().message));
  }
  const cluster::Member& asked = members->front();
  const MemberNode node{asked.node.value, asked.peer.host, asked.peer.port};
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto others, co_await Admin(cluster).change_member(
                                                 node, MemberChange::kAdd, deadline));
        const std::string line = start_line(node, others);
        const bool there = std::ranges::find(others, node.node, &MemberNode::node) != others.end();
        const std::string name = "node " + std::to_string(node.node);
        print(console.out,
              told(node.node, there ? "member" : "invited", line, args,
                   there ? name + " is one of the cluster already\n"
                         : name + " may come; start it, on an empty directory, with\n" + line + "\n"));
        co_return Result<void>();
      });
}

Outcome cluster_remove(const Args& args, Console& console) {
  return change_known(args, console, "cluster remove", MemberChange::kRemove, "removed",
                      "is none of the cluster any more");
}

Outcome cluster_replace_disk(const Args& args, Console& console) {
  return change_known(args, console, "cluster replace-disk", MemberChange::kReplaceDisk, "expected",
                      "may come with an empty data directory; start it as before");
}

}  // namespace pyralog::cli
