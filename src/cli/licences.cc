#include "cli/licences.h"

#include <fmt/core.h>
#include <isa-l.h>
#include <linux/version.h>
#include <lz4.h>
#include <openssl/opensslv.h>
#include <snappy-stubs-public.h>
#include <toml++/impl/version.h>
#include <xxhash.h>
#include <zstd.h>

#include <CLI/Version.hpp>
#include <boost/version.hpp>
#include <nlohmann/json_fwd.hpp>

namespace pyralog::cli {

namespace {

template <typename... Part>
std::string dotted(Part... parts) {
  std::string out;
  ((out += (out.empty() ? "" : ".") + std::to_string(parts)), ...);
  return out;
}

}  // namespace

std::vector<Licence> licences() {
  return {
      {"pyralog", "Pyralog", PYRALOG_VERSION, "MIT-0", "", {}},
      {"boost",
       "Boost",
       dotted(BOOST_VERSION / 100'000, BOOST_VERSION / 100 % 1'000, BOOST_VERSION % 100),
       "BSL-1.0",
       "https://www.boost.org",
       {}},
      {"cli11", "CLI11", CLI11_VERSION, "BSD-3-Clause", "https://github.com/CLIUtils/CLI11", {}},
      {"fmt",
       "{fmt}",
       dotted(FMT_VERSION / 10'000, FMT_VERSION / 100 % 100, FMT_VERSION % 100),
       "MIT",
       "https://fmt.dev",
       {"libfmt"}},
      {"gcc",
       "GCC run-time libraries",
       dotted(_GLIBCXX_RELEASE),
       "GPL-3.0-or-later WITH GCC-exception-3.1",
       "https://gcc.gnu.org",
       {"libstdc++", "libgcc_s"}},
      {"glibc",
       "GNU C library",
       dotted(__GLIBC__, __GLIBC_MINOR__),
       "LGPL-2.1-or-later",
       "https://www.gnu.org/software/libc",
       {"libc", "libm"}},
      {"isa-l",
       "ISA-L",
       dotted(ISAL_MAJOR_VERSION, ISAL_MINOR_VERSION, ISAL_PATCH_VERSION),
       "BSD-3-Clause",
       "https://github.com/intel/isa-l",
       {"libisal"}},
      {"linux",
       "Linux headers",
       dotted(LINUX_VERSION_MAJOR, LINUX_VERSION_PATCHLEVEL, LINUX_VERSION_SUBLEVEL),
       "GPL-2.0-only WITH Linux-syscall-note",
       "https://www.kernel.org",
       {}},
      {"llvm",
       "LLVM compiler headers",
       dotted(__clang_major__, __clang_minor__, __clang_patchlevel__),
       "Apache-2.0 WITH LLVM-exception",
       "https://llvm.org",
       {}},
      {"lz4", "LZ4", LZ4_VERSION_STRING, "BSD-2-Clause", "https://lz4.org", {"liblz4"}},
      {"nlohmann-json",
       "JSON for Modern C++",
       dotted(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
              NLOHMANN_JSON_VERSION_PATCH),
       "MIT",
       "https://github.com/nlohmann/json",
       {}},
      {"openssl",
       "OpenSSL",
       dotted(OPENSSL_VERSION_MAJOR, OPENSSL_VERSION_MINOR, OPENSSL_VERSION_PATCH),
       "Apache-2.0",
       "https://www.openssl.org",
       {"libcrypto"}},
      {"snappy",
       "Snappy",
       dotted(SNAPPY_MAJOR, SNAPPY_MINOR, SNAPPY_PATCHLEVEL),
       "BSD-3-Clause",
       "https://github.com/google/snappy",
       {"libsnappy"}},
      {"tomlplusplus",
       "toml++",
       dotted(TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH),
       "MIT",
       "https://marzer.github.io/tomlplusplus",
       {"libtomlplusplus"}},
      {"xxhash",
       "xxHash",
       dotted(XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE),
       "BSD-2-Clause",
       "https://xxhash.com",
       {}},
      {"zstd",
       "Zstandard",
       ZSTD_VERSION_STRING,
       "BSD-3-Clause",
       "https://facebook.github.io/zstd",
       {"libzstd"}},
  };
}

}  // namespace pyralog::cli
