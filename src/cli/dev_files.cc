#include "cli/dev_files.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/plant.h"
#include "server/cluster_settings.h"
#include "server/settings.h"

namespace pyralog::cli {

namespace {

constexpr int kTries = 1000;
constexpr std::uint16_t kFirstPort = 10'000;

std::unexpected<Error> failed(const std::string& what, int number) {
  return fail(Code::kIo, what + ": " + std::strerror(number), number);
}

Result<std::uint32_t> random_number() {
  std::uint32_t out = 0;
  if (::getrandom(&out, sizeof out, 0) != static_cast<ssize_t>(sizeof out)) {
    return failed("random bytes", errno);
  }
  return out;
}

/// A socket that keeps its port from others while it lives.
class Held {
 public:
  Held() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  Held(Held&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Held& operator=(Held&&) = delete;
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (fd_ >= 0) ::close(fd_);
  }
  /// The port, `wanted` or with 0 any; nothing if it is taken.
  [[nodiscard]] std::optional<std::uint16_t> bind(std::uint16_t wanted) const {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(wanted);
    socklen_t size = sizeof at;
    auto* const generic = reinterpret_cast<sockaddr*>(&at);
    if (fd_ < 0 || ::bind(fd_, generic, size) != 0 || ::getsockname(fd_, generic, &size) != 0) {
      return std::nullopt;
    }
    return ntohs(at.sin_port);
  }

 private:
  int fd_;
};

/// Where the ports begin that the system gives to whoever connects: below it a port is still free
/// at the next start.
std::uint16_t first_given_port() {
  std::ifstream in("/proc/sys/net/ipv4/ip_local_port_range");
  std::uint32_t first = 0;
  return in >> first && first <= UINT16_MAX ? static_cast<std::uint16_t>(first) : 32'768;
}

Result<std::vector<DevPorts>> free_ports(std::size_t nodes) {
  const std::uint16_t end = first_given_port();
  std::vector<Held> held;
  std::vector<std::uint16_t> found;
  for (int tried = 0; found.size() < 3 * nodes; ++tried) {
    if (tried == kTries)
      return fail(Code::kExhausted, "127.0.0.1: has no free ports; give --base-port");
    std::uint16_t wanted = 0;
    if (end > kFirstPort && tried < kTries / 2) {
      PYRALOG_ASSIGN(const std::uint32_t number, random_number());
      wanted = static_cast<std::uint16_t>(kFirstPort + number % (end - kFirstPort));
    }
    Held socket;
    if (const auto port = socket.bind(wanted)) {
      found.push_back(*port);
      held.push_back(std::move(socket));
    }
  }
  std::vector<DevPorts> out;
  for (std::size_t i = 0; i < found.size(); i += 3) {
    out.push_back({found[i], found[i + 1], found[i + 2]});
  }
  return out;
}

/// Makes the file, which only its owner may read, whole or not at all.
Result<void> write_file(const std::string& path, std::string_view text) {
  const std::string fresh = path + ".tmp";
  ::unlink(fresh.c_str());
  const mode_t mode = PYRALOG_PLANT("cli.secret_for_all") ? 0644 : 0600;
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return failed(fresh, errno);
  int number = 0;
  while (!text.empty() && number == 0) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno != EINTR) number = errno;
    if (wrote > 0) text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  if (number == 0 && ::fsync(fd) != 0) number = errno;
  ::close(fd);
  if (number == 0 && ::rename(fresh.c_str(), path.c_str()) != 0) number = errno;
  if (number != 0) return failed(path, number);
  return {};
}

Result<std::string> new_secret() {
  static constexpr char kHex[] = "0123456789abcdef";
  std::array<unsigned char, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return failed("random bytes", errno);
  }
  std::string out;
  for (const unsigned char byte : bytes) {
    out += kHex[byte >> 4U];
    out += kHex[byte & 15U];
  }
  return out + "\n";
}

/// How many nodes the cluster has whose first node's settings these are, and their first port.
struct Known {
  std::size_t nodes = 0;
  std::string kafka;
};
Result<Known> known_in(const std::string& config) {
  PYRALOG_ASSIGN(const auto assignments, server::read_toml_file(config));
  Known known;
  for (const server::Assignment& each : assignments) {
    if (each.key == "listeners.kafka") known.kafka = each.value;
    if (each.key != "cluster.members") continue;
    PYRALOG_ASSIGN(const auto members, server::parse_members(each.value));
    known.nodes = members.size();
  }
  if (known.nodes == 0) {
    return fail(Code::kCorrupt, config + ": names no cluster.members; choose another --data-dir");
  }
  return known;
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

}  // namespace

std::string dev_config(int id, const std::vector<DevPorts>& ports) {
  std::string members;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    members += (members.empty() ? "" : ",") + std::to_string(i + 1) +
               "@127.0.0.1:" + std::to_string(ports[i].peer);
  }
  const DevPorts& own = ports.at(static_cast<std::size_t>(id - 1));
  return "# A node of `pyralog dev cluster`, which starts it with these settings.\n"
         "node.id = " +
         std::to_string(id) +
         "\n"
         "cluster.members = \"" +
         members +
         "\"\n"
         "listeners.kafka = \"127.0.0.1:" +
         std::to_string(own.kafka) +
         "\"\n"
         "listeners.http = \"127.0.0.1:" +
         std::to_string(own.http) +
         "\"\n"
         "shards = 1\n";
}

std::vector<DevPorts> ports_from(std::uint16_t first, std::size_t nodes) {
  std::vector<DevPorts> out;
  for (std::size_t i = 0; i < nodes; ++i) {
    const auto at = [&](std::size_t k) { return static_cast<std::uint16_t>(first + 3 * i + k); };
    out.push_back({at(0), at(1), at(2)});
  }
  return out;
}

DevFiles::DevFiles(int lock, const std::string& dir, std::size_t nodes)
    : lock_(lock), secret_(dir + "/secret") {
  for (std::size_t i = 1; i <= nodes; ++i) {
    const std::string base = dir + "/node-" + std::to_string(i);
    nodes_.push_back({static_cast<int>(i), base + ".toml", base, base + ".log"});
  }
}

DevFiles::DevFiles(DevFiles&& other) noexcept
    : lock_(std::exchange(other.lock_, -1)),
      secret_(std::move(other.secret_)),
      nodes_(std::move(other.nodes_)) {}

DevFiles::~DevFiles() {
  if (lock_ >= 0) ::close(lock_);
}

Result<DevFiles> DevFiles::take(const std::string& dir, std::size_t nodes,
                                std::uint16_t base_port) {
  std::error_code made;
  std::filesystem::create_directories(dir, made);
  if (made) return failed(dir, made.value());
  if (exists(dir + "/cookie")) {
    return fail(Code::kInvalidArgument,
                dir + ": is the data directory of a single node; choose another --data-dir");
  }
  const int lock = ::open((dir + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return failed(dir + "/lock", errno);
  DevFiles files(lock, dir, nodes);
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kAlreadyExists,
                dir +
                    ": another `pyralog dev cluster` runs on it; end that one, or choose another "
                    "--data-dir");
  }
  // The first node's settings are written last: where they are, all is.
  const std::string& first = files.nodes_.front().config;
  if (exists(first)) {
    PYRALOG_ASSIGN(const Known known, known_in(first));
    if (known.nodes != nodes) {
      return fail(Code::kInvalidArgument,
                  dir + ": holds a cluster of " + std::to_string(known.nodes) +
                      " nodes; start as many, or choose another --data-dir");
    }
    if (base_port != 0 && known.kafka != "127.0.0.1:" + std::to_string(base_port)) {
      return fail(Code::kInvalidArgument,
                  dir + ": its nodes have ports already, the first " + known.kafka +
                      "; leave --base-port out, or choose another --data-dir");
    }
    return files;
  }
  if (!exists(files.secret_)) {
    PYRALOG_ASSIGN(const std::string secret, new_secret());
    PYRALOG_TRY(write_file(files.secret_, secret));
  }
  std::vector<DevPorts> ports = ports_from(base_port, nodes);
  if (base_port == 0) {
    PYRALOG_ASSIGN(ports, free_ports(nodes));
  }
  for (auto node = files.nodes_.rbegin(); node != files.nodes_.rend(); ++node) {
    PYRALOG_TRY(write_file(node->config, dev_config(node->id, ports)));
  }
  return files;
}

}  // namespace pyralog::cli
