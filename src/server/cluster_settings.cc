#include "server/cluster_settings.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/plant.h"
#include "io/net.h"

namespace pyralog::server {

namespace {

constexpr std::size_t kMaxHostBytes = 255;  // that can be registered

std::unexpected<Error> refused(std::string message) {
  return fail(Code::kInvalidArgument, std::move(message));
}

std::string quoted(std::string_view text) {
  return "\"" + std::string(text) + "\"";
}

Result<cluster::Member> parse_member(std::string_view text) {
  cluster::Member member;
  const std::size_t at = text.find('@');
  const std::string_view id = text.substr(0, at);
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), member.node.value);
  if (at == std::string_view::npos || error != std::errc() || end != id.data() + id.size() ||
      member.node.value < 1) {
    return refused(quoted(text) + " is no ID@HOST:PORT with an id from 1 to 2147483647");
  }
  auto address = io::parse_address(text.substr(at + 1));
  if (!address) return refused(quoted(text) + ": " + address.error().message);
  if (address->host.size() > kMaxHostBytes) {
    return refused("a host of " + std::to_string(address->host.size()) +
                   " bytes; 255 are the most");
  }
  if (address->port == 0 || io::is_wildcard(*address)) {
    return refused(quoted(text) + ": other nodes cannot connect to that; name the host and a port");
  }
  member.peer = std::move(*address);
  return member;
}

/// A descriptor that is closed whatever happens.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

std::unexpected<Error> unreadable(const std::string& path, int number) {
  return fail(number == ENOENT ? Code::kNotFound : Code::kIo,
              "cluster.secret.file " + path + ": cannot be read: " + std::strerror(number) +
                  "; name a file that this user may read",
              number);
}

}  // namespace

Result<std::vector<cluster::Member>> parse_members(std::string_view text) {
  std::vector<cluster::Member> members;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    more = comma != std::string_view::npos;
    PYRALOG_ASSIGN(cluster::Member one, parse_member(text.substr(0, comma)));
    for (const cluster::Member& other : members) {
      if (other.node == one.node) {
        return refused("node " + std::to_string(one.node.value) +
                       " is named twice; name each once");
      }
      if (other.peer == one.peer && !PYRALOG_PLANT("server.members_share_an_address")) {
        return refused("nodes " + std::to_string(other.node.value) + " and " +
                       std::to_string(one.node.value) + " are both at " + io::to_string(one.peer) +
                       "; each has an address of its own");
      }
    }
    members.push_back(std::move(one));
    if (members.size() > kMaxMembers && !PYRALOG_PLANT("server.any_number_of_members")) {
      return refused("names more than " + std::to_string(kMaxMembers) +
                     " nodes; three or five agree on the metadata log, further ones join later");
    }
    if (more) text.remove_prefix(comma + 1);
  }
  return members;
}

Result<Bytes> read_secret(const std::string& path) {
  const std::string what = "cluster.secret.file " + path;
  // Whatever it is, opening it may not wait: for a pipe's other end, say.
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) return unreadable(path, errno);
  struct stat found{};
  if (::fstat(file.get(), &found) != 0) return unreadable(path, errno);
  if (!S_ISREG(found.st_mode))
    return refused(what + ": is no file; name one that holds the secret");
  if ((found.st_mode & (S_IRWXG | S_IRWXO)) != 0 && !PYRALOG_PLANT("server.secret_for_all")) {
    return refused(what + ": others than its owner may read or change it; run `chmod 600 " + path +
                   "`, and choose another secret if somebody may have seen it");
  }
  // One more than may be, to see that it is too long; the file's size may change under our hands.
  Bytes secret(kMostSecretBytes + 1);
  std::size_t size = 0;
  while (size < secret.size()) {
    const ssize_t got = ::read(file.get(), secret.data() + size, secret.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable(path, errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  const std::string remedy =
      "; write random bytes to it (`openssl rand -hex 32`) and give the same file to every node";
  if (size > kMostSecretBytes) {
    return refused(what + ": is longer than " + std::to_string(kMostSecretBytes) + " bytes" +
                   remedy);
  }
  // An editor or `echo` ends the line; another node's file may lack that.
  if (size > 0 && secret[size - 1] == '\n') --size;
  if (size > 0 && secret[size - 1] == '\r') --size;
  if (size == 0) return refused(what + ": is empty" + remedy);
  if (size < kLeastSecretBytes && !PYRALOG_PLANT("server.short_secret")) {
    return refused(what + ": has " + std::to_string(size) + " bytes, fewer than " +
                   std::to_string(kLeastSecretBytes) + remedy);
  }
  secret.resize(size);
  return secret;
}

}  // namespace pyralog::server
