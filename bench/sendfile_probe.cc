// What this machine takes to send files over loopback: a child process moves pages of a file to sockets
// and does nothing else, a pinned parent drops what arrives. Prints one JSON line.
//
// It is the floor under every server that answers fetches from files, and does it the way that was found
// to be the fastest here: by a pipe of 512 KiB (splice; sendfile's own has 64 KiB), on the processor of the
// reader. On another one both sides together take two to three times as long for the same bytes: they wait
// for each other's cache lines and wake each other.

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "load.h"

namespace {

using namespace pyralog::bench;

struct Options {
  std::string folder;
  size_t connections = 4;
  size_t file_bytes = 64 << 20;  ///< each connection is sent its own part of them again and again
  size_t chunk = 512 << 10;      ///< that is moved at once
  int send_buffer = 256 << 10;   ///< SO_SNDBUF; 0 = as is
  double seconds = 1;
  int cpu = -1;         ///< of the reader
  int sender_cpu = -1;  ///< -1: the reader's
};

struct Pair {
  int server;
  int client;
};

Pair connect_pair(const Options& options) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(listener, 1) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    die_of_errno("a listener on loopback");
  }
  const int client = connect_to({.host = "127.0.0.1", .port = ntohs(address.sin_port)});
  const int server = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
  if (server < 0) die_of_errno("accept");
  if (options.send_buffer > 0 && ::setsockopt(server, SOL_SOCKET, SO_SNDBUF, &options.send_buffer,
                                              sizeof options.send_buffer) != 0) {
    die_of_errno("SO_SNDBUF");
  }
  ::close(listener);
  return {.server = server, .client = client};
}

int file_in_cache(const Options& options) {
  const std::string path = options.folder + "/sendfile_probe";
  const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) die_of_errno("open " + path);
  ::unlink(path.c_str());
  // In pieces as a broker's batches are, of which none begins with a page: large pieces would lie in memory
  // in larger parts.
  const std::string bytes = filler((64 << 10) - 300, 0);
  for (size_t at = 0; at < options.file_bytes; at += bytes.size()) {
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      die_of_errno("write " + path);
    }
  }
  return fd;
}

/// Until the reader has gone.
void serve(const Options& options, int file, const std::vector<Pair>& pairs) {
  struct Sender {
    int ends[2];
    off64_t at = 0;
    size_t in_pipe = 0;
  };
  std::vector<pollfd> polled;
  std::vector<Sender> senders(pairs.size());
  const off64_t part = static_cast<off64_t>(options.file_bytes / pairs.size());
  for (size_t i = 0; i < pairs.size(); ++i) {
    senders[i].at = static_cast<off64_t>(i) * part;
    polled.push_back({pairs[i].server, POLLOUT, 0});
    if (::pipe2(senders[i].ends, O_CLOEXEC | O_NONBLOCK) != 0) die_of_errno("pipe");
    (void)::fcntl(senders[i].ends[1], F_SETPIPE_SZ, static_cast<int>(options.chunk));
  }
  while (true) {
    if (::poll(polled.data(), polled.size(), 1000) < 0) return;
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      Sender& from = senders[i];
      if (from.in_pipe == 0) {
        if (from.at >= static_cast<off64_t>(i + 1) * part) from.at = static_cast<off64_t>(i) * part;
        const ssize_t got =
            ::splice(file, &from.at, from.ends[1], nullptr, options.chunk, SPLICE_F_NONBLOCK);
        if (got <= 0) die_of_errno("splice");
        from.in_pipe = static_cast<size_t>(got);
      }
      const ssize_t sent =
          ::splice(from.ends[0], nullptr, polled[i].fd, nullptr, from.in_pipe, SPLICE_F_NONBLOCK);
      if (sent < 0 && errno != EAGAIN) return;
      if (sent > 0) from.in_pipe -= static_cast<size_t>(sent);
    }
  }
}

uint64_t drop(const Options& options, const std::vector<Pair>& pairs) {
  std::vector<pollfd> polled;
  for (const Pair& pair : pairs) polled.push_back({pair.client, POLLIN, 0});
  uint64_t bytes = 0;
  const auto end = Clock::now() + to_duration(options.seconds);
  while (Clock::now() < end) {
    if (::poll(polled.data(), polled.size(), 100) < 0) die_of_errno("poll");
    for (const pollfd& one : polled) {
      if (one.revents == 0) continue;
      const ssize_t got = ::recv(one.fd, nullptr, 1 << 20, MSG_DONTWAIT | MSG_TRUNC);
      if (got > 0) bytes += static_cast<uint64_t>(got);
    }
  }
  return bytes;
}

void set(Options& options, std::string_view name, std::string_view value) {
  if (name == "--folder") {
    options.folder = value;
  } else if (name == "--connections") {
    options.connections = parse<size_t>(value, name);
  } else if (name == "--file-bytes") {
    options.file_bytes = parse<size_t>(value, name);
  } else if (name == "--send-buffer") {
    options.send_buffer = parse<int>(value, name);
  } else if (name == "--seconds") {
    options.seconds = parse<double>(value, name);
  } else if (name == "--cpu") {
    options.cpu = parse<int>(value, name);
  } else if (name == "--sender-cpu") {
    options.sender_cpu = parse<int>(value, name);
  } else {
    die("unknown option " + std::string(name));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (const auto& [name, value] : option_pairs(argc, argv)) set(options, name, value);
  if (options.folder.empty()) die("--folder is needed");
  const int file = file_in_cache(options);
  std::vector<Pair> pairs;
  for (size_t i = 0; i < options.connections; ++i) pairs.push_back(connect_pair(options));
  const pid_t child = ::fork();
  if (child < 0) die_of_errno("fork");
  if (child == 0) {
    ::signal(SIGPIPE, SIG_IGN);
    pin_to_cpu(options.sender_cpu >= 0 ? options.sender_cpu : options.cpu);
    for (const Pair& pair : pairs) ::close(pair.client);
    serve(options, file, pairs);
    std::_Exit(0);
  }
  for (const Pair& pair : pairs) ::close(pair.server);
  pin_to_cpu(options.cpu);
  const uint64_t bytes = drop(options, pairs);
  for (const Pair& pair : pairs) ::close(pair.client);
  int status = 0;
  rusage usage{};
  if (::wait4(child, &status, 0, &usage) != child) die_of_errno("wait4");
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  std::printf("{\"mb_per_s\": %.1f, \"total_bytes\": %llu, \"cpu_per_gb\": %.3f}\n",
              1000 * gigabytes / options.seconds, static_cast<unsigned long long>(bytes),
              (seconds(usage.ru_utime) + seconds(usage.ru_stime)) / gigabytes);
  return 0;
}
