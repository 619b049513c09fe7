// The tests that every implementation of io passes, on the real one.
#include "io/contract.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "io/posix/runtime.h"

namespace pyralog::io::posix {
namespace {

class RealMachine final : public ContractMachine {
 public:
  RealMachine() : runtime_({.shards = 2}) {
    std::string name = (std::filesystem::temp_directory_path() / "pyralog-io-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
    PYRALOG_ASSERT(runtime_.start());
  }
  ~RealMachine() override {
    runtime_.stop();
    std::filesystem::remove_all(directory_);
  }
  const Shards& shards() const override { return runtime_.shards(); }
  std::string directory() const override { return directory_; }
  void run(std::function<Task<void>()> make, unsigned shard) override {
    runtime_.run(std::move(make), shard);
  }

 private:
  Runtime runtime_;
  std::string directory_;
};

std::unique_ptr<ContractMachine> real_machine() { return std::make_unique<RealMachine>(); }

}  // namespace
}  // namespace pyralog::io::posix

namespace pyralog::io {
INSTANTIATE_TEST_SUITE_P(Posix, ShardContract, testing::Values(posix::real_machine));
INSTANTIATE_TEST_SUITE_P(Posix, DiskContract, testing::Values(posix::real_machine));
INSTANTIATE_TEST_SUITE_P(Posix, NetContract, testing::Values(posix::real_machine));
}  // namespace pyralog::io
