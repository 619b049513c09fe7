// `dev cluster`: several nodes on this machine, each a process of its own, started and ended
// together.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "base/json.h"
#include "base/plant.h"
#include "base/time.h"
#include "cli/child.h"
#include "cli/dev_files.h"
#include "cli/handlers.h"
#include "server/settings.h"

extern char** environ;

namespace pyralog::cli {

namespace {

/// A node takes shutdown.timeout.ms for its requests, ten seconds by default, and some for its
/// files.
constexpr Duration kPatience = std::chrono::seconds(25);
/// Who ends a whole process group may say it to this process twice.
constexpr Duration kSameWish = std::chrono::milliseconds(500);
constexpr std::streamoff kLogTail = 4096;

Duration now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return std::chrono::seconds(time.tv_sec) + Duration(time.tv_nsec);
}

/// This process's, without what would set for all nodes what each has for itself.
std::vector<std::string> environment_of_nodes() {
  std::vector<std::string> left_out = {"PYRALOG_CONFIG"};
  for (const server::Setting& setting : server::settings()) {
    if (setting.group == "Place and listeners" || setting.group == "Cluster") {
      left_out.push_back(server::environment_of(setting));
    }
  }
  std::vector<std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (std::ranges::find(left_out, text.substr(0, text.find('='))) == left_out.end()) {
      out.emplace_back(text);
    }
  }
  return out;
}

/// What the command that ended has said last of why, if it has.
std::string last_word(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = in.tellg();
  if (!in || size <= 0) return {};
  in.seekg(std::max<std::streamoff>(0, size - kLogTail));
  std::string last;
  for (std::string line; std::getline(in, line);) {
    last = line;
  }
  return last.starts_with("pyralog: ") ? last : std::string();
}

class DevCluster {
 public:
  DevCluster(DevFiles files, bool as_json, Console& console)
      : files_(std::move(files)), as_json_(as_json), console_(console) {}
  DevCluster(const DevCluster&) = delete;
  DevCluster& operator=(const DevCluster&) = delete;
  ~DevCluster() {
    if (signals_ >= 0) ::close(signals_);
  }

  Outcome run() {
    PYRALOG_TRY(watch_signals());
    for (const DevNode& node : files_.nodes()) PYRALOG_TRY(start(node));
    while (any_runs()) {
      if (auto waited = wait(); !waited) return std::unexpected<Failure>(waited.error());
      for (Running& one : running_) look(one);
      if (ending_since_ && !killed_ && now() - *ending_since_ >= kPatience) {
        say("nodes still run after 25 s, and are killed");
        kill_all();
      }
    }
    if (!trouble_.empty()) return std::unexpected<Failure>(Error{Code::kUnavailable, trouble_, 0});
    return {};
  }

 private:
  struct Running {
    const DevNode* node;
    Child child;
    std::string kafka;  ///< once it is ready
    bool told = false;  ///< that it has ended
  };

  void say(const std::string& what) { print(console_.err, "pyralog: dev cluster: " + what + "\n"); }

  Result<void> watch_signals() {
    sigset_t ours;
    ::sigemptyset(&ours);
    for (const int each : {SIGINT, SIGTERM, SIGCHLD}) ::sigaddset(&ours, each);
    // A terminal that goes away ends them, too, unless somebody has said otherwise (nohup).
    struct sigaction hangup{};
    ::sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) ::sigaddset(&ours, SIGHUP);
    ::sigprocmask(SIG_BLOCK, &ours, &before_);
    signals_ = ::signalfd(-1, &ours, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals_ < 0)
      return fail(Code::kIo, std::string("signals: ") + std::strerror(errno), errno);
    return {};
  }

  Result<void> start(const DevNode& node) {
    ChildPlan plan;
    plan.words = {"serve",        "--config", node.config,
                  "--data-dir",   node.data,  "--cluster-secret-file",
                  files_.secret()};
    plan.environment = environment_of_nodes();
    plan.log = node.log;
    // One that comes before the node listens for them waits for it, instead of ending it halfway.
    plan.signals = before_;
    for (const int each : {SIGINT, SIGTERM}) ::sigaddset(&plan.signals, each);
    PYRALOG_ASSIGN(Child child, Child::start(plan));
    running_.push_back({&node, std::move(child), {}, false});
    return {};
  }

  [[nodiscard]] bool any_runs() const {
    return std::ranges::any_of(running_, [](const Running& one) { return !one.child.ended(); });
  }

  /// Until somebody has something to tell, or it is time to look.
  Result<void> wait() {
    std::vector<pollfd> fds = {{signals_, POLLIN, 0}};
    for (const Running& one : running_) {
      if (one.child.output() >= 0) fds.push_back({one.child.output(), POLLIN, 0});
    }
    const int limit_ms = ending_since_ ? 100 : -1;
    if (::poll(fds.data(), fds.size(), limit_ms) < 0 && errno != EINTR) {
      return fail(Code::kIo, std::string("poll: ") + std::strerror(errno), errno);
    }
    signalfd_siginfo info{};
    while (::read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo != SIGCHLD) end(info);
    }
    return {};
  }

  void end(const signalfd_siginfo& info) {
    if (ending_since_) {
      if (now() - *ending_since_ >= kSameWish) kill_all();
      return;
    }
    ending_since_ = now();
    // A terminal's Ctrl-C goes to the whole process group; a second signal would end them at once.
    const bool has_them_all = info.ssi_signo == SIGINT && info.ssi_code == SI_KERNEL;
    if (has_them_all && !PYRALOG_PLANT("cli.ctrl_c_twice")) return;
    for (const Running& one : running_) one.child.send(SIGTERM);
  }

  void kill_all() {
    killed_ = true;
    for (const Running& one : running_) one.child.send(SIGKILL);
  }

  void look(Running& one) {
    one.child.look();
    for (const std::string& line : one.child.lines()) {
      if (line.starts_with("ready ")) tell_ready(one, line);
    }
    if (!one.child.ended() || one.told) return;
    one.told = true;
    if (ending_since_ && one.child.ended_well()) return;
    const std::string what =
        "node " + std::to_string(one.node->id) + " has ended (" + one.child.how() + ")";
    if (trouble_.empty()) trouble_ = "dev cluster: " + what + "; see " + one.node->log;
    const std::string last = last_word(one.node->log);
    say(what + (any_runs() && !ending_since_ ? ", the others go on" : "") + "; see " +
        one.node->log + (last.empty() ? std::string() : ", which ends with: " + last));
  }

  void tell_ready(Running& one, const std::string& line) {
    const auto word = [&](std::string_view name) {
      const std::size_t at = line.find(name);
      if (at == std::string::npos) return std::string();
      const std::size_t from = at + name.size();
      return line.substr(from, line.find(' ', from) - from);
    };
    one.kafka = word(" kafka=");
    if (as_json_) {
      JsonWriter json;
      json.object().field("ready", true).field("node", one.node->id).field("kafka", one.kafka);
      json.field("http", word(" http=")).field("pid", one.child.pid());
      print(console_.out, json.end().take() + "\n");
    } else {
      print(console_.out, line + " pid=" + std::to_string(one.child.pid()) + "\n");
    }
    std::fflush(console_.out);
    std::string all;
    for (const Running& each : running_) {
      if (each.kafka.empty()) return;
      all += (all.empty() ? "" : ",") + each.kafka;
    }
    say("all are ready: --bootstrap " + all + "; Ctrl-C ends them");
  }

  DevFiles files_;
  bool as_json_;
  Console& console_;
  sigset_t before_{};
  int signals_ = -1;
  std::vector<Running> running_;
  std::optional<Duration> ending_since_;
  bool killed_ = false;
  std::string trouble_;  ///< the first node that has not ended as it should
};

}  // namespace

Outcome dev_cluster(const Args& args, Console& console) {
  const auto nodes = args.number("N", 3, 1, 5);
  if (!nodes) return usage(nodes.error().message);
  if (*nodes % 2 == 0) {
    return usage("dev cluster: " + std::to_string(*nodes) +
                 " nodes bear no more than one fewer does; take 1, 3 or 5");
  }
  const auto base = args.number("base-port", 0, 1, 65'536 - 3 * *nodes);
  if (!base) return usage(base.error().message);
  auto files = DevFiles::take(args.text("data-dir", "./dev-cluster"),
                              static_cast<std::size_t>(*nodes), static_cast<std::uint16_t>(*base));
  if (!files) {
    const bool usage = files.error().code == Code::kInvalidArgument;
    return std::unexpected<Failure>(Failure(std::move(files.error()), usage ? 2 : 1));
  }
  return DevCluster(std::move(*files), args.flag("json"), console).run();
}

}  // namespace pyralog::cli
