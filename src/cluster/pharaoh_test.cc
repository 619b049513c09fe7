// Ids and counters: whoever holds a machine id or a block, however it was frozen, nothing comes
// twice.
#include "cluster/pharaoh.h"

#include <set>

#include "cluster/testing.h"

namespace pyralog::cluster {
namespace {

using obelisk::ScarabRange;
using testing::ClusterTest;
using ::testing::HasSubstr;

Instant soon() {
  return io::Shard::current().now() + 300ms;
}

/// A node's way to the metadata log, which can be cut.
class Way final : public MetadataLog {
 public:
  explicit Way(MetadataLog& log) : log_(log) {}
  const CatalogPtr& catalog() const override { return log_.catalog(); }
  io::Task<Result<CatalogPtr>> propose(Plan plan) override {
    ++proposals;
    if (cut) co_return fail(Code::kUnavailable, "the metadata log cannot be reached; wait");
    if (slow != Duration{}) co_await io::sleep_for(slow);
    auto done = co_await log_.propose(std::move(plan));
    if (done && forget) co_return fail(Code::kTimedOut, "nobody knows; look again");
    co_return done;
  }
  io::Task<void> on_change(Observer observer) override {
    return log_.on_change(std::move(observer));
  }

  bool cut = false;
  bool forget = false;  ///< what was agreed on is not heard of
  Duration slow{};
  int proposals = 0;

 private:
  MetadataLog& log_;
};

struct Issuer {
  Issuer(MetadataLog& log, std::int32_t id) : way(log), pharaoh(way, NodeId(id)) {}
  Way way;
  Pharaoh pharaoh;
};

class PharaohTest : public ClusterTest {
 protected:
  using Two = std::function<io::Task<void>(Issuer& a, Issuer& b)>;
  /// Nodes 1 and 2 of one metadata log.
  void two(Two body) {
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                EXPECT_TRUE(co_await cluster.metadata().propose([](const catalog::Catalog&) {
                  catalog::NodeRegistered other;
                  other.node = NodeId(2);
                  other.incarnation.bytes[0] = 2;
                  other.boot_counter = 1;
                  other.host = "b";
                  other.port = 2;
                  return Result<std::vector<catalog::Entry>>({other});
                }));
                Issuer a(cluster.metadata(), 1);
                Issuer b(cluster.metadata(), 2);
                co_await body(a, b);
                co_await a.pharaoh.stop();
                co_await b.pharaoh.stop();
              }),
              "");
  }
  /// Counts what comes twice.
  void keep(const Result<ScarabRange>& ids) {
    if (!ids) return;
    for (std::uint64_t i = 0; i < ids->size(); ++i) {
      duplicates_ += seen_.insert((*ids)[i].value).second ? 0 : 1;
    }
  }
  std::set<std::uint64_t> seen_;
  int duplicates_ = 0;
};
using MachineLeaseTest = PharaohTest;

WallMs at(std::int64_t ms) {
  return WallMs{obelisk::kScarabEpochMs + ms};
}

catalog::Catalog granted(std::vector<catalog::Entry> more) {
  catalog::Catalog state;
  catalog::ClusterCreated created;
  created.cluster.bytes[0] = 1;
  more.insert(more.begin(), created);
  for (std::int32_t id = 1; id <= 2; ++id) {
    catalog::NodeRegistered node;
    node.node = NodeId(id);
    node.incarnation.bytes[0] = static_cast<std::uint8_t>(id);
    node.boot_counter = 1;
    node.host = "h";
    node.port = 1;
    more.insert(more.begin() + id, node);
  }
  for (const auto& each : more) EXPECT_TRUE(state.apply(each, state.position() + 1));
  return state;
}

TEST(MachineLease, a_held_id_is_not_given_to_a_second_holder) {
  const auto state = granted({catalog::MachineIdGranted{0, NodeId(1), 50'000}});
  for (const std::int64_t now : {41'000, 50'000, 59'999}) {
    const auto other = take_machine(state, at(now));
    ASSERT_TRUE(other);
    EXPECT_EQ(other->machine, 1) << now;
    EXPECT_EQ(other->ceiling_ms, static_cast<std::uint64_t>(now) + kMachineGrantMs);
  }
  EXPECT_EQ(renew_machine(state, NodeId(2), {0, 0, 50'000}, 45'000).error().code, Code::kFenced);
  EXPECT_EQ(renew_machine(state, NodeId(1), {0, 0, 40'000}, 45'000).error().code, Code::kFenced)
      << "an older grant of the same node is another process's";
  EXPECT_TRUE(renew_machine(state, NodeId(1), {0, 0, 50'000}, 45'000));
}

TEST(MachineLease, the_next_holder_starts_at_the_old_ceiling_once_that_has_passed) {
  const auto state = granted({catalog::MachineIdGranted{0, NodeId(1), 50'000}});
  const auto next = take_machine(state, at(60'000));
  ASSERT_TRUE(next);
  EXPECT_EQ(*next, (MachineLease{0, 50'000, 70'000}));
}

TEST(MachineLease, all_ids_held_is_said) {
  std::vector<catalog::Entry> all;
  for (std::uint16_t i = 0; i < obelisk::kScarabMachines; ++i)
    all.emplace_back(catalog::MachineIdGranted{i, NodeId(1), 50'000});
  const auto state = granted(std::move(all));
  EXPECT_EQ(take_machine(state, at(50'000)).error().code, Code::kExhausted);
  EXPECT_TRUE(take_machine(state, at(60'000)));
}

TEST_F(MachineLeaseTest, two_nodes_at_once_issue_nothing_twice) {
  two([&](Issuer& a, Issuer& b) -> io::Task<void> {
    for (int i = 0; i < 200; ++i) {
      keep(co_await a.pharaoh.next_ids(100, soon()));
      keep(co_await b.pharaoh.next_ids(100, soon()));
      co_await io::sleep_for(i % 10 == 0 ? 400ms : 1ms);
    }
  });
  EXPECT_EQ(duplicates_, 0);
  EXPECT_EQ(seen_.size(), 40'000u);
}

TEST_F(MachineLeaseTest, a_holder_frozen_past_its_grant_issues_nothing_of_it) {
  two([&](Issuer& a, Issuer& b) -> io::Task<void> {
    keep(co_await a.pharaoh.next_ids(10, soon()));
    a.way.cut = true;
    co_await io::sleep_for(40s);  // frozen: the other takes its machine id
    for (int i = 0; i < 20; ++i) {
      keep(co_await b.pharaoh.next_ids(10, soon()));
      const auto stale = co_await a.pharaoh.next_ids(10, soon());
      EXPECT_FALSE(stale);
      keep(stale);
    }
    a.way.cut = false;
    for (int i = 0; i < 20; ++i) {
      const auto again = co_await a.pharaoh.next_ids(10, soon());
      EXPECT_TRUE(again) << again.error().message;
      keep(again);
      keep(co_await b.pharaoh.next_ids(10, soon()));
    }
  });
  EXPECT_EQ(duplicates_, 0);
  EXPECT_EQ(seen_.size(), 610u);
}

TEST_F(MachineLeaseTest, a_renewal_of_which_nobody_knows_is_not_gone_on_from) {
  two([&](Issuer& a, Issuer& b) -> io::Task<void> {
    keep(co_await a.pharaoh.next_ids(10, soon()));
    a.way.forget = true;
    co_await io::sleep_for(6s);
    keep(co_await a.pharaoh.next_ids(10, soon()));  // from what is left; the renewal is lost
    a.way.forget = false;
    co_await io::sleep_for(30s);
    for (int i = 0; i < 20; ++i) {
      keep(co_await b.pharaoh.next_ids(10, soon()));
      keep(co_await a.pharaoh.next_ids(10, soon()));
    }
  });
  EXPECT_EQ(duplicates_, 0);
  EXPECT_EQ(seen_.size(), 420u);
}

TEST_F(MachineLeaseTest, is_renewed_at_half_while_ids_are_asked_for_and_not_else) {
  two([&](Issuer& a, Issuer&) -> io::Task<void> {
    for (int i = 0; i < 300; ++i) {
      EXPECT_TRUE(co_await a.pharaoh.next_ids(1, soon()));
      co_await io::sleep_for(100ms);
    }
    EXPECT_GE(a.way.proposals, 5);
    EXPECT_LE(a.way.proposals, 8);
    const int before = a.way.proposals;
    co_await io::sleep_for(100s);
    EXPECT_LE(a.way.proposals, before + 1);
  });
}

TEST_F(MachineLeaseTest, ids_go_on_for_half_a_grant_without_the_metadata_log) {
  two([&](Issuer& a, Issuer& b) -> io::Task<void> {
    keep(co_await a.pharaoh.next_ids(1, soon()));
    b.pharaoh.follow(*b.way.catalog());
    co_await io::sleep_for(1s);
    a.way.cut = b.way.cut = true;
    for (int i = 0; i < 35; ++i) {
      const auto spare = co_await b.pharaoh.next_ids(1, soon());
      EXPECT_TRUE(spare) << "whoever follows has a machine id of its own";
      keep(spare);
      co_await io::sleep_for(100ms);
    }
  });
  EXPECT_EQ(duplicates_, 0);
}

TEST_F(PharaohTest, ids_of_a_node_ascend_over_restarts) {
  for (int round = 0; round < 4; ++round) {
    std::uint64_t last = seen_.empty() ? 0 : *seen_.rbegin() >> 23;
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                Pharaoh pharaoh(cluster.metadata(), cluster.node());
                const auto ids = co_await pharaoh.next_ids(10, soon());
                EXPECT_TRUE(ids);
                keep(ids);
                EXPECT_GE((*ids)[0].value >> 23, last);
                co_await pharaoh.stop();
              }),
              "");
    restart(true);
  }
  EXPECT_EQ(duplicates_, 0);
}

TEST_F(PharaohTest, counters_are_unique_over_nodes_and_ascend_on_each) {
  std::set<std::int64_t> values;
  two([&](Issuer& a, Issuer& b) -> io::Task<void> {
    std::int64_t last_a = 0;
    for (int i = 0; i < 400; ++i) {
      Issuer& who = i % 3 == 0 ? b : a;
      const std::int64_t count = i % 50 == 49 ? 5'000 : 1 + i % 7;
      const auto first = co_await who.pharaoh.next_counter("orders", count, false, soon());
      EXPECT_TRUE(first) << first.error().message;
      if (!first) continue;
      for (std::int64_t v = *first; v < *first + count; ++v)
        EXPECT_TRUE(values.insert(v).second) << v;
      if (&who == &a) {
        EXPECT_GT(*first, last_a);
        last_a = *first;
      }
    }
    EXPECT_LT(a.way.proposals + b.way.proposals, 60) << "blocks grow with what is used";
  });
}

TEST_F(PharaohTest, strict_values_have_the_order_of_calls_and_no_gaps) {
  two([&](Issuer& a, Issuer& b) -> io::Task<void> {
    for (std::int64_t i = 1; i <= 20; ++i) {
      Issuer& who = i % 2 == 0 ? b : a;
      EXPECT_EQ(co_await who.pharaoh.next_counter("invoices", 1, true, soon()), i);
    }
    EXPECT_EQ(co_await a.pharaoh.next_counter("invoices", 5, true, soon()), 21);
    EXPECT_EQ(co_await b.pharaoh.next_counter("invoices", 1, true, soon()), 26);
  });
}

TEST_F(PharaohTest, calls_at_the_same_time_get_different_values) {
  std::set<std::int64_t> values;
  two([&](Issuer& a, Issuer&) -> io::Task<void> {
    a.way.slow = 10ms;
    io::TaskGroup group;
    const auto call = [&](bool strict) -> io::Task<void> {
      const auto got = co_await a.pharaoh.next_counter("c", 30, strict, soon());
      EXPECT_TRUE(got) << got.error().message;
      if (got) {
        for (std::int64_t v = *got; v < *got + 30; ++v) EXPECT_TRUE(values.insert(v).second) << v;
      }
    };
    for (int i = 0; i < 40; ++i) group.spawn(call(i % 4 == 0));
    co_await group.join();
  });
  EXPECT_EQ(values.size(), 1200u);
}

TEST_F(PharaohTest, what_cannot_be_is_refused_with_what_to_do) {
  two([&](Issuer& a, Issuer&) -> io::Task<void> {
    for (const char* name : {"", "Upper", "sp ace", "ä", "a/b"}) {
      const auto bad = co_await a.pharaoh.next_counter(name, 1, false, soon());
      EXPECT_EQ(bad.error().code, Code::kInvalidArgument) << name;
    }
    EXPECT_FALSE(co_await a.pharaoh.next_counter(std::string(250, 'a'), 1, true, soon()));
    EXPECT_TRUE(co_await a.pharaoh.next_counter(std::string(249, 'a'), 1, true, soon()));
    for (const std::int64_t count : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'000'001}})
      EXPECT_FALSE(co_await a.pharaoh.next_counter("c", count, false, soon())) << count;
    EXPECT_FALSE(co_await a.pharaoh.next_ids(0, soon()));
    EXPECT_FALSE(co_await a.pharaoh.next_ids(obelisk::kScarabMaxBatch + 1, soon()));
    EXPECT_TRUE(co_await a.pharaoh.next_ids(obelisk::kScarabMaxBatch - 1, soon()));
  });
}

TEST_F(PharaohTest, a_deadline_ends_the_wait_for_a_slow_metadata_log) {
  two([&](Issuer& a, Issuer&) -> io::Task<void> {
    a.way.slow = 5s;
    const Instant began = io::Shard::current().now();
    EXPECT_EQ((co_await a.pharaoh.next_ids(1, soon())).error().code, Code::kTimedOut);
    EXPECT_EQ((co_await a.pharaoh.next_counter("c", 1, false, soon())).error().code,
              Code::kTimedOut);
    EXPECT_LT(io::Shard::current().now() - began, 700ms);
  });
}

TEST_F(PharaohTest, a_stop_ends_the_waits) {
  two([&](Issuer& a, Issuer&) -> io::Task<void> {
    a.way.slow = 2s;
    io::TaskGroup group;
    bool refused = false;
    const auto wait = [&]() -> io::Task<void> {
      const Instant late = io::Shard::current().now() + 60s;
      refused = !(co_await a.pharaoh.next_counter("c", 1, false, late));
    };
    group.spawn(wait());
    co_await a.pharaoh.stop();
    EXPECT_TRUE(refused);
    co_await group.join();
    EXPECT_THAT((co_await a.pharaoh.next_ids(1, soon())).error().message, HasSubstr("stopping"));
  });
}

}  // namespace
}  // namespace pyralog::cluster
