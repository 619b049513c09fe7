// Asks a server that runs how it is, by one HTTP request, for `doctor`.
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "cli/machine.h"

namespace pyralog::cli {

namespace {

constexpr timeval kPatience{2, 0};  // for each step: to connect, to send, for a next piece
constexpr std::size_t kMaxAnswer = 1u << 20;

Result<void> failed(const io::Address& address, const std::string& what) {
  return fail(Code::kUnavailable, io::to_string(address) + ": " + what);
}

/// Sends `request` and appends all that comes back to `answer`.
Result<void> exchange(int socket, const io::Address& address, std::string_view request,
                      std::string& answer) {
  while (!request.empty()) {
    const ssize_t sent = ::send(socket, request.data(), request.size(), MSG_NOSIGNAL);
    if (sent <= 0) return failed(address, std::strerror(errno));
    request.remove_prefix(static_cast<std::size_t>(sent));
  }
  char piece[16'384];
  while (answer.size() < kMaxAnswer) {
    const ssize_t got = ::recv(socket, piece, sizeof piece, 0);
    if (got < 0) return failed(address, std::strerror(errno));
    if (got == 0) return {};
    answer.append(piece, static_cast<std::size_t>(got));
  }
  return failed(address, "its answer has no end");
}

}  // namespace

Result<std::string> ask_health(const io::Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found) != 0) {
    PYRALOG_TRY(failed(address, "there is no such host"));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, ::freeaddrinfo);
  const int socket = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) PYRALOG_TRY(failed(address, std::strerror(errno)));
  // It bounds connecting, too.
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  std::string answer;
  Result<void> done = ::connect(socket, found->ai_addr, found->ai_addrlen) == 0
                          ? exchange(socket, address,
                                     "GET /health HTTP/1.1\r\nHost: " + address.host +
                                         "\r\nConnection: close\r\n\r\n",
                                     answer)
                          : failed(address, std::strerror(errno));
  ::close(socket);
  PYRALOG_TRY(std::move(done));
  const std::size_t end = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.") || end == std::string::npos) {
    PYRALOG_TRY(failed(address, "what listens there does not speak HTTP"));
  }
  return answer.substr(end + 4);
}

}  // namespace pyralog::cli
