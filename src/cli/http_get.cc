#include "cli/http_get.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

namespace pyralog::cli {

namespace {

constexpr std::chrono::seconds kAtMost(30);  // for all of an answer, in however small pieces
constexpr timeval kPatience{2, 0};           // for each step: to connect, to send, for a next piece

Result<void> failed(const io::Address& address, const std::string& what) {
  return fail(Code::kUnavailable, io::to_string(address) + ": " + what);
}

/// Sends `request` and appends all that comes back to `answer`.
Result<void> exchange(int socket, const io::Address& address, std::string_view request,
                      std::string& answer, std::size_t most) {
  while (!request.empty()) {
    const ssize_t sent = ::send(socket, request.data(), request.size(), MSG_NOSIGNAL);
    if (sent <= 0) return failed(address, std::strerror(errno));
    request.remove_prefix(static_cast<std::size_t>(sent));
  }
  char piece[16'384];
  const auto end = std::chrono::steady_clock::now() + kAtMost;
  while (answer.size() < most) {
    if (std::chrono::steady_clock::now() >= end) return failed(address, "takes too long to answer");
    const ssize_t got = ::recv(socket, piece, sizeof piece, 0);
    if (got < 0) return failed(address, std::strerror(errno));
    if (got == 0) return {};
    answer.append(piece, static_cast<std::size_t>(got));
  }
  return fail(Code::kTooLarge, io::to_string(address) + ": its answer has no end after " +
                                   std::to_string(most) + " bytes");
}

}  // namespace

Result<std::string> http_get(const io::Address& address, std::string_view path, std::size_t most) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found) !=
      0) {
    PYRALOG_TRY(failed(address, "there is no such host"));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, ::freeaddrinfo);
  const int socket = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) PYRALOG_TRY(failed(address, std::strerror(errno)));
  // It bounds connecting, too.
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  std::string answer;
  Result<void> done =
      ::connect(socket, found->ai_addr, found->ai_addrlen) == 0
          ? exchange(socket, address,
                     "GET " + std::string(path) + " HTTP/1.1\r\nHost: " + address.host +
                         "\r\nConnection: close\r\n\r\n",
                     answer, most)
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
