#pragma once

#include <cstddef>
#include <cstdint>

namespace pyralog::io::posix {

/// Sends parts of files from the page cache to sockets: the pages go into a pipe that holds many of them
/// and from there to the socket, none is copied. sendfile(2) does the same with a pipe of 16 pages and lets
/// other threads run before each filling of it; a reader on the same processor then runs once for every
/// 64 KiB instead of once for all. Empty between calls: it holds nothing back for anybody. One a shard, and
/// used by its thread only.
class SendPipe {
 public:
  /// What one call should send, and the most that it does: a little rest goes along. It says to the caller
  /// how much should be in memory.
  static constexpr std::size_t kBytes = 512 * 1024;
  static constexpr std::size_t kMost = kBytes + 64 * 1024;

  struct Sent {
    std::size_t bytes = 0;    ///< that the socket took
    std::size_t offered = 0;  ///< that the file had; 0 and no error = the file ends before them
    int error = 0;            ///< errno; EAGAIN: the socket takes nothing now
  };

  SendPipe() = default;
  SendPipe(const SendPipe&) = delete;
  SendPipe& operator=(const SendPipe&) = delete;
  ~SendPipe() { close(); }

  /// Sends up to `count` bytes of `file` from `position` on; waits for the device if they are not in
  /// memory, and never for the socket. Few bytes, and all where there are no descriptors for a pipe, go
  /// by sendfile(2).
  [[nodiscard]] Sent send(int socket, int file, std::uint64_t position, std::size_t count);

 private:
  [[nodiscard]] bool open();
  void close();
  void forget(std::size_t bytes);

  int in_ = -1;    ///< the pipe's end for writing
  int out_ = -1;   ///< and the one for reading
  int sink_ = -1;  ///< takes what the socket does not
};

}  // namespace pyralog::io::posix
