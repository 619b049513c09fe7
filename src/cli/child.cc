#include "cli/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/plant.h"

namespace pyralog::cli {

namespace {

constexpr std::size_t kMaxLine = 4096;
constexpr int kNotStarted = 127;

std::unexpected<Error> failed(const std::string& what, int number) {
  return fail(Code::kIo, what + ": " + std::strerror(number), number);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

/// In the new process; returns to nobody.
[[noreturn]] void become(pid_t parent, int output, int log, const sigset_t& signals,
                         char* const* words, char* const* environment) {
  // A parent that is killed can end nobody itself.
  const bool outlives = PYRALOG_PLANT("cli.children_outlive");
  if (!outlives && ::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) ::_exit(kNotStarted);
  // It may have gone before that was said.
  if (!outlives && ::getppid() != parent) ::_exit(kNotStarted);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing < 0 || ::dup2(nothing, STDIN_FILENO) < 0 || ::dup2(output, STDOUT_FILENO) < 0 ||
      ::dup2(log, STDERR_FILENO) < 0 || ::sigprocmask(SIG_SETMASK, &signals, nullptr) != 0) {
    ::_exit(kNotStarted);
  }
  ::execve("/proc/self/exe", words, environment);
  ::_exit(kNotStarted);
}

}  // namespace

Result<Child> Child::start(const ChildPlan& plan) {
  std::vector<std::string> words = {"pyralog"};
  words.insert(words.end(), plan.words.begin(), plan.words.end());
  std::vector<std::string> environment = plan.environment;
  const std::vector<char*> word_pointers = pointers(words);
  const std::vector<char*> environment_pointers = pointers(environment);
  const int log = ::open(plan.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) return failed(plan.log, errno);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    const int number = errno;
    ::close(log);
    return failed("a pipe", number);
  }
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    become(parent, ends[1], log, plan.signals, word_pointers.data(), environment_pointers.data());
  }
  const int number = errno;
  ::close(log);
  ::close(ends[1]);
  if (pid < 0) {
    ::close(ends[0]);
    return failed("a new process", number);
  }
  // Only this end waits for nobody.
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return Child(pid, ends[0]);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      unread_(std::move(other.unread_)),
      ended_(other.ended_),
      status_(other.status_) {}

Child::~Child() {
  if (output_ >= 0) ::close(output_);
  if (pid_ < 0 || ended_) return;
  send(SIGKILL);
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
}

std::vector<std::string> Child::lines() {
  std::vector<std::string> out;
  char piece[kMaxLine];
  while (output_ >= 0) {
    const ssize_t got = ::read(output_, piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got <= 0) {
      ::close(std::exchange(output_, -1));
      break;
    }
    unread_.append(piece, static_cast<std::size_t>(got));
    for (std::size_t end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n')) {
      out.push_back(unread_.substr(0, end));
      unread_.erase(0, end + 1);
    }
    if (unread_.size() > kMaxLine) unread_.erase(0, unread_.size() - kMaxLine);
  }
  return out;
}

void Child::look() {
  if (!ended_ && ::waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
}

std::string Child::how() const {
  if (WIFSIGNALED(status_)) return "signal " + std::to_string(WTERMSIG(status_));
  return "exit code " + std::to_string(WEXITSTATUS(status_));
}

bool Child::ended_well() const {
  return ended_ && WIFEXITED(status_) && WEXITSTATUS(status_) == 0;
}

void Child::send(int signal) const {
  // Its number is its own until somebody has waited for it.
  if (!ended_) ::kill(pid_, signal);
}

}  // namespace pyralog::cli
