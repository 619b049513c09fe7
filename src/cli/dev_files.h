#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace pyralog::cli {

/// Where one node of `dev cluster` keeps its things.
struct DevNode {
  int id = 0;
  std::string config;  ///< DIR/node-1.toml
  std::string data;    ///< DIR/node-1
  std::string log;     ///< DIR/node-1.log
};

/// Ports of one node, on 127.0.0.1.
struct DevPorts {
  std::uint16_t kafka = 0;
  std::uint16_t http = 0;
  std::uint16_t peer = 0;
  friend bool operator==(const DevPorts&, const DevPorts&) = default;
};

/// The settings of the node with this id among those with these ports. Pure.
[[nodiscard]] std::string dev_config(int id, const std::vector<DevPorts>& ports);
/// kafka, http and peer of the first node, then of the second, one after another.
[[nodiscard]] std::vector<DevPorts> ports_from(std::uint16_t first, std::size_t nodes);

/// The directory of a cluster for development: the secret, and what is set of each node. Held by
/// one process at a time. Blocks the calling thread.
class DevFiles {
 public:
  /// Takes the directory, makes what is missing of an empty one, and leaves what is there as it is:
  /// a cluster keeps its ports and its number of nodes. `base_port` 0 = free ports.
  [[nodiscard]] static Result<DevFiles> take(const std::string& dir, std::size_t nodes,
                                             std::uint16_t base_port);
  DevFiles(DevFiles&& other) noexcept;
  DevFiles& operator=(DevFiles&&) = delete;
  DevFiles(const DevFiles&) = delete;
  DevFiles& operator=(const DevFiles&) = delete;
  ~DevFiles();

  [[nodiscard]] const std::string& secret() const { return secret_; }  ///< its path
  [[nodiscard]] const std::vector<DevNode>& nodes() const { return nodes_; }

 private:
  DevFiles(int lock, const std::string& dir, std::size_t nodes);
  int lock_;
  std::string secret_;
  std::vector<DevNode> nodes_;
};

}  // namespace pyralog::cli
