#pragma once

namespace pyralog::base {
/// Prints the failed invariant and its place to standard error and aborts. Any thread.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
}  // namespace pyralog::base

/// An invariant whose violation puts consistency at risk; checked in release builds too.
#define PYRALOG_ASSERT(expression)                                              \
  (__builtin_expect(static_cast<bool>(expression), 1)                           \
       ? static_cast<void>(0)                                                   \
       : ::pyralog::base::assertion_failed(#expression, __FILE__, __LINE__))
