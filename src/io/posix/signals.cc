#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "io/posix/errors.h"
#include "io/posix/posix_shard.h"
#include "io/posix/runtime.h"

namespace pyralog::io::posix {

Task<Result<int>> next_signal(std::vector<int> signals) {
  auto& shard = static_cast<PosixShard&>(Shard::current());
  sigset_t set;
  sigemptyset(&set);
  for (const int number : signals) sigaddset(&set, number);
  const int fd = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0) co_return fail(system_error(errno, "signals", "signalfd"));
  struct Awaiter {
    boost::asio::posix::stream_descriptor descriptor;
    signalfd_siginfo info{};
    boost::system::error_code error{};
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
      descriptor.async_read_some(boost::asio::buffer(&info, sizeof info),
                                 [this, h](const boost::system::error_code& e, std::size_t) {
                                   error = e;
                                   h.resume();
                                 });
    }
    Result<int> await_resume() const {
      if (error) return fail(system_error(error.value(), "signals", "read"));
      return static_cast<int>(info.ssi_signo);
    }
  };
  co_return co_await Awaiter{boost::asio::posix::stream_descriptor(shard.context(), fd)};
}

}  // namespace pyralog::io::posix
