#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "io/shard.h"
#include "io/task.h"

namespace pyralog::io {

/// One machine with two shards and an empty directory, real or simulated, for the tests that every
/// implementation of `io` has to pass (contract_*_test.cc).
class ContractMachine {
 public:
  virtual ~ContractMachine() = default;
  [[nodiscard]] virtual const Shards& shards() const = 0;
  [[nodiscard]] virtual std::string directory() const = 0;
  /// Runs a task on a shard until it has finished.
  virtual void run(std::function<Task<void>()> make, unsigned shard) = 0;
};
using ContractFactory = std::unique_ptr<ContractMachine> (*)();

class ContractTest : public testing::TestWithParam<ContractFactory> {
 protected:
  ContractTest() : machine_(GetParam()()) {}
  void run(std::function<Task<void>()> make, unsigned shard = 0) {
    machine_->run(std::move(make), shard);
  }
  [[nodiscard]] Shard& shard(unsigned index) const { return *machine_->shards().at(index); }
  [[nodiscard]] std::string path(const std::string& name) const {
    return machine_->directory() + "/" + name;
  }

 private:
  std::unique_ptr<ContractMachine> machine_;
};

// A suite each, so that a failing name says where to look.
class ShardContract : public ContractTest {};
class DiskContract : public ContractTest {};
class NetContract : public ContractTest {};

}  // namespace pyralog::io
