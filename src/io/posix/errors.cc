#include "io/posix/errors.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace pyralog::io::posix {

namespace {
Code code_of(int number) {
  switch (number) {
    case ENOENT: return Code::kNotFound;
    case EEXIST:
    case ENOTEMPTY:
    case EADDRINUSE: return Code::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS: return Code::kExhausted;
    case EINVAL:
    case EISDIR:
    case ENAMETOOLONG:
    case EBADF: return Code::kInvalidArgument;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH: return Code::kUnavailable;
    case ETIMEDOUT: return Code::kTimedOut;
    case ECANCELED: return Code::kCancelled;
    default: return Code::kIo;
  }
}

const char* remedy_of(int number) {
  switch (number) {
    case ENOSPC:
    case EDQUOT: return "; free space or lower retention";
    case EMFILE:
    case ENFILE: return "; raise the limit of open files (ulimit -n)";
    case EADDRINUSE: return "; stop its owner or choose another port";
    case EACCES:
    case EPERM: return "; check owner and mode";
    case ECONNREFUSED: return "; is the server running?";
    default: return "";
  }
}
}  // namespace

Error system_error(int number, std::string_view what, std::string_view call) {
  return {code_of(number),
          fmt::format("{}: {} failed: {}{}", what, call, std::generic_category().message(number),
                      remedy_of(number)),
          number};
}

}  // namespace pyralog::io::posix
