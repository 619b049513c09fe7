#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace pyralog::protocol::http {

/// One request, its body read and dropped: nothing here takes one.
struct Request {
  std::string method;
  std::string path;  ///< without the query
  bool keep_alive = false;
};

/// Reads HTTP/1.x requests from bytes as they come, in bounded memory. Pure; one connection's.
class RequestReader {
 public:
  struct Limits {
    std::uint32_t header_bytes = 16u << 10;
    std::uint64_t body_bytes = 64u << 10;
  };
  explicit RequestReader(Limits limits);
  RequestReader(RequestReader&&) noexcept;
  RequestReader& operator=(RequestReader&&) noexcept;
  ~RequestReader();

  /// Takes bytes; returns how many it has used, which is fewer once a request is complete. What is
  /// left belongs to the next request. kTooLarge over a limit, kCorrupt for what is no HTTP/1.x.
  [[nodiscard]] Result<std::size_t> put(ByteView bytes);
  [[nodiscard]] bool complete() const;
  /// True if nothing of a request has come yet.
  [[nodiscard]] bool untouched() const;
  /// The complete request; the reader is ready for the next one.
  [[nodiscard]] Request take();

 private:
  struct State;
  std::unique_ptr<State> state_;
  Limits limits_;
};

}  // namespace pyralog::protocol::http
