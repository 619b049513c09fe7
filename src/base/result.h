#pragma once

#include <expected>
#include <string>
#include <utility>

namespace pyralog::base {

/// What kind of thing went wrong; decides retry, wire code and exit code, the message tells a human.
enum class Code {
  kInvalidArgument,  ///< the caller's input is wrong; the same call fails again
  kNotFound,
  kAlreadyExists,
  kOutOfRange,   ///< an offset or index outside what exists
  kCorrupt,      ///< stored or received bytes fail their checks
  kUnsupported,  ///< a format or feature newer or other than ours
  kFenced,       ///< an older epoch, generation or incarnation
  kUnavailable,  ///< not now: loading, offline, shutting down
  kTimedOut,
  kCancelled,
  kTooLarge,   ///< over a configured limit
  kExhausted,  ///< memory, descriptors or disk space
  kIo,         ///< the operating system refused a call
};

/// The project's one error: a kind, and a message that names the thing, what happened and the next
/// step. Cheap to move; no allocation on the success path.
struct Error {
  Code code = Code::kInvalidArgument;
  std::string message;
  int sys_errno = 0;  ///< errno behind kIo and kExhausted, else 0
};

template <typename T>
using Result = std::expected<T, Error>;

/// `return fail(Code::kCorrupt, "…");` from a function that returns any Result.
[[nodiscard]] inline std::unexpected<Error> fail(Code code, std::string message, int sys_errno = 0) {
  return std::unexpected<Error>(Error{code, std::move(message), sys_errno});
}
[[nodiscard]] inline std::unexpected<Error> fail(Error error) {
  return std::unexpected<Error>(std::move(error));
}

/// The lower-case name of a code, for logs and JSON.
[[nodiscard]] const char* name(Code code);

}  // namespace pyralog::base

namespace pyralog {
using namespace base;
}  // namespace pyralog

/// Returns the error of `expr` from the enclosing function, else goes on. In a coroutine use
/// PYRALOG_CO_TRY.
#define PYRALOG_TRY(expr)                                                           \
  do {                                                                              \
    auto pyralog_try_ = (expr);                                                     \
    if (!pyralog_try_) return ::pyralog::base::fail(std::move(pyralog_try_.error())); \
  } while (false)

#define PYRALOG_CO_TRY(expr)                                                           \
  do {                                                                                 \
    auto pyralog_try_ = (expr);                                                        \
    if (!pyralog_try_) co_return ::pyralog::base::fail(std::move(pyralog_try_.error())); \
  } while (false)

#define PYRALOG_CONCAT_(a, b) a##b
#define PYRALOG_CONCAT(a, b) PYRALOG_CONCAT_(a, b)
#define PYRALOG_ASSIGN_(tmp, ret, decl, expr)                       \
  auto tmp = (expr);                                                \
  if (!tmp) ret ::pyralog::base::fail(std::move(tmp.error()));      \
  decl = std::move(*tmp)

/// `PYRALOG_ASSIGN(auto x, f());` binds the value or returns the error; PYRALOG_CO_ASSIGN in
/// coroutines.
#define PYRALOG_ASSIGN(decl, expr) \
  PYRALOG_ASSIGN_(PYRALOG_CONCAT(pyralog_assign_, __LINE__), return, decl, expr)
#define PYRALOG_CO_ASSIGN(decl, expr) \
  PYRALOG_ASSIGN_(PYRALOG_CONCAT(pyralog_assign_, __LINE__), co_return, decl, expr)
