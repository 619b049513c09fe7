#include "load.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace pyralog::bench {

void die(const std::string& text) {
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, text.c_str());
  std::exit(1);
}

void die_of_errno(const std::string& what) {
  die(what + ": " + std::strerror(errno));
}

std::vector<std::pair<std::string_view, std::string_view>> option_pairs(int argc, char** argv) {
  if (argc % 2 == 0) die("options come in pairs: --name value");
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  for (int i = 1; i + 1 < argc; i += 2) pairs.emplace_back(argv[i], argv[i + 1]);
  return pairs;
}

Address parse_address(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) die("an address is HOST:PORT, not " + std::string(text));
  return {.host = std::string(text.substr(0, colon)),
          .port = parse<uint16_t>(text.substr(colon + 1), "port")};
}

int connect_to(const Address& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die_of_errno("socket");
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(address.port);
  if (::inet_pton(AF_INET, address.host.c_str(), &to.sin_addr) != 1) {
    die("not an IPv4 address: " + address.host);
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    die_of_errno("connect to " + address.host + ":" + std::to_string(address.port));
  }
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

void pin_to_cpu(int cpu) {
  if (cpu < 0) return;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(cpu), &cpus);
  if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) die_of_errno("binding to a processor");
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void put_string(std::string& out, std::string_view text) {
  put(out, static_cast<int16_t>(text.size()));
  out.append(text);
}

void put_varint(std::string& out, int64_t value) {
  auto zigzag = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
  for (; zigzag >= 0x80; zigzag >>= 7) out.push_back(static_cast<char>(zigzag | 0x80));
  out.push_back(static_cast<char>(zigzag));
}

std::string filler(size_t size, size_t seed) {
  std::string out;
  out.reserve(size);
  for (size_t i = 0; i < size; ++i)
    out.push_back(static_cast<char>('a' + (i * 31 + seed * 7) % 26));
  return out;
}

}  // namespace pyralog::bench
