#include "base/result.h"

namespace pyralog::base {

const char* name(Code code) {
  switch (code) {
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kNotFound: return "not_found";
    case Code::kAlreadyExists: return "already_exists";
    case Code::kOutOfRange: return "out_of_range";
    case Code::kCorrupt: return "corrupt";
    case Code::kUnsupported: return "unsupported";
    case Code::kFenced: return "fenced";
    case Code::kUnavailable: return "unavailable";
    case Code::kTimedOut: return "timed_out";
    case Code::kCancelled: return "cancelled";
    case Code::kTooLarge: return "too_large";
    case Code::kExhausted: return "exhausted";
    case Code::kIo: return "io";
  }
  return "unknown";
}

}  // namespace pyralog::base
