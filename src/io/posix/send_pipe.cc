#include "io/posix/send_pipe.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/plant.h"
#include "io/posix/descriptors.h"

namespace pyralog::io::posix {

namespace {

// A pipe of fewer bytes is no better than sendfile's.
constexpr int kLeastPipeBytes = 128 * 1024;
// So few go through sendfile's pipe at once, with one call instead of two.
constexpr std::size_t kFewBytes = 64 * 1024;

ssize_t splice_once(int from, off64_t* position, int to, std::size_t count) {
  ssize_t moved = 0;
  do {
    moved = ::splice(from, position, to, nullptr, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  return moved;
}

SendPipe::Sent send_directly(int socket, int file, std::uint64_t position, std::size_t count) {
  auto from = static_cast<off_t>(position);
  ssize_t sent = 0;
  do {
    sent = ::sendfile(socket, file, &from, count);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return {0, 0, errno};
  return {static_cast<std::size_t>(sent), static_cast<std::size_t>(sent), 0};
}

}  // namespace

bool SendPipe::open() {
  if (in_ >= 0) return true;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  out_ = ends[0];
  in_ = ends[1];
  sink_ = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  // A pipe holds pages, also parts of them, and has a power of two. A user has only so many for all pipes;
  // then it stays as small as it came.
  for (int bytes = static_cast<int>(std::bit_ceil(kMost)); sink_ >= 0 && bytes >= kLeastPipeBytes; bytes /= 2) {
    if (::fcntl(in_, F_SETPIPE_SZ, bytes) < kLeastPipeBytes) continue;
    for (int i = 0; i < 3; ++i) count_opened();
    return true;
  }
  if (sink_ >= 0) ::close(sink_);
  ::close(in_);
  ::close(out_);
  in_ = out_ = sink_ = -1;
  return false;
}

void SendPipe::close() {
  if (in_ < 0) return;
  for (int* fd : {&in_, &out_, &sink_}) {
    ::close(std::exchange(*fd, -1));
    count_closed();
  }
}

/// What is left in the pipe must never reach the next socket.
void SendPipe::forget(std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t gone = splice_once(out_, nullptr, sink_, bytes);
    if (gone <= 0) {
      close();
      return;
    }
    bytes -= static_cast<std::size_t>(gone);
  }
}

SendPipe::Sent SendPipe::send(int socket, int file, std::uint64_t position, std::size_t count) {
  if (count <= kFewBytes || !open()) return send_directly(socket, file, position, count);
  auto from = static_cast<off64_t>(position);
  const ssize_t taken = splice_once(file, &from, in_, std::min(count, kMost));
  if (taken < 0) return {0, 0, errno};
  Sent sent;
  sent.offered = static_cast<std::size_t>(taken);
  while (sent.bytes < sent.offered) {
    const ssize_t out = splice_once(out_, nullptr, socket, sent.offered - sent.bytes);
    if (out <= 0) {
      if (sent.bytes == 0) sent.error = out == 0 ? EPIPE : errno;
      break;
    }
    sent.bytes += static_cast<std::size_t>(out);
    // Less than all: the socket is full, and asking again would only say so.
    if (sent.bytes < sent.offered) break;
  }
  if (!PYRALOG_PLANT("io.pipe_keeps_what_was_not_taken")) forget(sent.offered - sent.bytes);
  return sent;
}

}  // namespace pyralog::io::posix
