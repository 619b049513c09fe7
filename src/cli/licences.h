#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pyralog::cli {

/// Something that the binary contains or links, and the terms that it comes under.
struct Licence {
  std::string key;                  ///< as CMakeLists.txt names its text
  std::string name;                 ///< "zstd"
  std::string version;              ///< of what was compiled
  std::string id;                   ///< as SPDX writes it: "BSD-3-Clause"
  std::string home;                 ///< an address
  std::vector<std::string> shared;  ///< "libzstd": loaded at start; empty = only compiled in
};

/// Pyralog first, then the others by name. tests/cli/cli_licences.py compares the table with what
/// the build includes and links.
[[nodiscard]] std::vector<Licence> licences();

struct LicenceText {
  std::string_view package;  ///< of the system that brought it; empty for our own
  std::string_view text;     ///< empty if the building system had none
};
/// Made at build time, from the copyright files that packages bring.
[[nodiscard]] LicenceText licence_text(std::string_view key);

}  // namespace pyralog::cli
