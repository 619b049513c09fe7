#include <unistd.h>

#include "cli/command.h"

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  pyralog::cli::Console console;
  console.err_is_terminal = ::isatty(STDERR_FILENO) == 1;
  return pyralog::cli::run(words, console);
}
