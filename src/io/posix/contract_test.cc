// The tests that every implementation of io passes, on the real one.
#include "io/contract.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "io/posix/posix_file_system.h"
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

TEST(PosixFileSystem, lists_all_or_says_why_not) {
  std::string directory = std::filesystem::temp_directory_path() / "pyralog-list-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  std::filesystem::create_symlink("nowhere", directory + "/gone");
  const auto none = list_directory(directory);
  std::filesystem::create_symlink("loop", directory + "/loop");
  const auto refused = list_directory(directory);
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty()) << "what is gone is no entry";
  ASSERT_FALSE(refused) << "an entry that cannot be looked at must not be passed over";
  EXPECT_NE(refused.error().message.find("/loop"), std::string::npos);
}

std::unique_ptr<ContractMachine> real_machine() { return std::make_unique<RealMachine>(); }

}  // namespace
}  // namespace pyralog::io::posix

namespace pyralog::io {
INSTANTIATE_TEST_SUITE_P(Posix, ShardContract, testing::Values(posix::real_machine));
INSTANTIATE_TEST_SUITE_P(Posix, DiskContract, testing::Values(posix::real_machine));
INSTANTIATE_TEST_SUITE_P(Posix, NetContract, testing::Values(posix::real_machine));
}  // namespace pyralog::io
