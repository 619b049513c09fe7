#pragma once

#include <sys/types.h>

#include <csignal>
#include <string>
#include <vector>

#include "base/result.h"

namespace pyralog::cli {

/// How a process is started.
struct ChildPlan {
  std::vector<std::string> words;        ///< after the program's name
  std::vector<std::string> environment;  ///< "NAME=value", all of it
  std::string log;                       ///< where its standard error is appended
  sigset_t signals{};                    ///< that are blocked in it
};

/// Another process of this executable, in this one's process group: what it writes to standard
/// output is read here, and it ends with this process, however that ends. Used on the thread that
/// starts it, which is the only one then and must live as long as it.
class Child {
 public:
  /// kIo if it cannot be started.
  [[nodiscard]] static Result<Child> start(const ChildPlan& plan);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  /// Ends a process that still runs, at once, and waits for it.
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// To be polled for reading; -1 once it has closed it.
  [[nodiscard]] int output() const { return output_; }
  /// The whole lines that it has written since; without waiting. Of a very long one only its end.
  [[nodiscard]] std::vector<std::string> lines();
  [[nodiscard]] bool ended() const { return ended_; }
  /// Takes note if it has ended; without waiting.
  void look();
  /// "exit code 1", "signal 9"; once it has ended.
  [[nodiscard]] std::string how() const;
  [[nodiscard]] bool ended_well() const;
  void send(int signal) const;

 private:
  Child(pid_t pid, int output) : pid_(pid), output_(output) {}
  pid_t pid_ = -1;
  int output_ = -1;
  std::string unread_;
  bool ended_ = false;
  int status_ = 0;
};

}  // namespace pyralog::cli
