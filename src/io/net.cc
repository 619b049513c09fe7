#include "io/net.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace pyralog::io {

namespace {
bool is_v6(const std::string& host) {
  in6_addr parsed{};
  return inet_pton(AF_INET6, host.c_str(), &parsed) == 1;
}
}  // namespace

Result<Address> parse_address(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(Code::kInvalidArgument,
                fmt::format("address \"{}\": {}; write HOST:PORT or [IPV6]:PORT", text, why));
  };
  Address address;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return refuse("the bracket is not closed");
    address.host = std::string(text.substr(1, close - 1));
    if (!is_v6(address.host)) return refuse("there is no IPv6 address between the brackets");
    if (close + 1 >= text.size() || text[close + 1] != ':') return refuse("the port is missing");
    port = text.substr(close + 2);
  } else {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return refuse("the port is missing");
    if (text.find(':', colon + 1) != std::string_view::npos) {
      return refuse("an IPv6 address needs brackets");
    }
    address.host = std::string(text.substr(0, colon));
    port = text.substr(colon + 1);
  }
  if (address.host.empty()) return refuse("the host is missing");
  for (const char c : address.host) {
    if (c <= ' ' || c == '/' || c == '\x7f') return refuse("the host has a character of no host");
  }
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port.empty() || error != std::errc{} || end != port.data() + port.size() || number > 65535) {
    return refuse("the port is not a number from 0 to 65535");
  }
  address.port = static_cast<std::uint16_t>(number);
  return address;
}

std::string to_string(const Address& address) {
  if (address.host.find(':') != std::string::npos) {
    return fmt::format("[{}]:{}", address.host, address.port);
  }
  return fmt::format("{}:{}", address.host, address.port);
}

bool is_loopback(const Address& address) {
  if (address.host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24U) == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6);
  }
  return false;
}

bool is_wildcard(const Address& address) {
  in_addr v4{};
  // As the resolver does, which takes "0" and "0x0.0" for 0.0.0.0.
  if (inet_aton(address.host.c_str(), &v4) != 0) return v4.s_addr == INADDR_ANY;
  in6_addr v6{};
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) != 1) return address.host.empty();
  if (IN6_IS_ADDR_V4MAPPED(&v6))
    return std::all_of(&v6.s6_addr[12], &v6.s6_addr[16], [](auto byte) { return byte == 0; });
  return IN6_IS_ADDR_UNSPECIFIED(&v6);
}

}  // namespace pyralog::io
