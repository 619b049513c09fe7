// One partition's replicas over real logs and links, simulated machines and their faults.
#include "replica/participant.h"

#include "replica/participant_testing.h"

namespace pyralog::replica {
namespace {

using testing::Replicas;
using namespace std::chrono_literals;

std::string value_of(int i) {
  return "value " + std::to_string(i);
}

TEST(ParticipantTest, what_the_leader_takes_all_hold_and_a_quorum_commits) {
  Replicas replicas(1);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  for (int i = 0; i < 50; ++i) {
    const auto at = replicas.append(0, value_of(i));
    ASSERT_TRUE(at);
    EXPECT_EQ(*at, Offset(i));
  }
  ASSERT_TRUE(replicas.committed(0, Offset(50)));
  ASSERT_TRUE(replicas.all_have(Offset(50)));
  EXPECT_EQ(replicas.bytes(1), replicas.bytes(0));
  EXPECT_EQ(replicas.bytes(2), replicas.bytes(0));
  EXPECT_EQ(replicas.values(2)[49], value_of(49));
}

TEST(ParticipantTest, with_one_of_three_gone_it_goes_on_and_with_two_it_refuses) {
  Replicas replicas(2);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  replicas.lose_power(2);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(replicas.append(0, value_of(i)));
  ASSERT_TRUE(replicas.committed(0, Offset(20)));
  replicas.lose_power(1);
  // It was accepted before anybody could know; it is not committed.
  (void)replicas.append(0, "in doubt");
  EXPECT_FALSE(replicas.committed(0, Offset(21), 3s));
  EXPECT_FALSE(replicas.accepts(0));
  EXPECT_FALSE(replicas.append(0, "refused"));
  replicas.restart(2);
  ASSERT_TRUE(replicas.committed(0, Offset(20)));
  ASSERT_TRUE(replicas.sim_.run_until([&] { return replicas.accepts(0); }, 5s));
  ASSERT_TRUE(replicas.append(0, "after"));
  replicas.restart(1);
  ASSERT_TRUE(replicas.well());
  EXPECT_EQ(replicas.bytes(1), replicas.bytes(0));
  EXPECT_EQ(replicas.bytes(2), replicas.bytes(0));
  EXPECT_EQ(replicas.values(0).back(), "after");
}

TEST(ParticipantTest, a_new_leader_has_all_that_was_committed_and_the_old_one_loses_the_rest) {
  Replicas replicas(3);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(replicas.append(0, value_of(i)));
  ASSERT_TRUE(replicas.all_have(Offset(10)));
  replicas.cut(0);
  for (int i = 0; i < 3; ++i) (void)replicas.append(0, "of nobody");
  ASSERT_TRUE(replicas.take_over(1));
  EXPECT_EQ(replicas.at(1)->epoch(), replicas.partition().current->epoch);
  for (int i = 10; i < 20; ++i) ASSERT_TRUE(replicas.append(1, value_of(i)));
  ASSERT_TRUE(replicas.committed(1, Offset(20)));
  replicas.sim_.run_for(1s);
  EXPECT_FALSE(replicas.accepts(0)) << "cut off, it must not take anything for long";
  replicas.heal();
  ASSERT_TRUE(replicas.well());
  EXPECT_FALSE(replicas.at(0)->leads());
  const auto values = replicas.values(0);
  ASSERT_EQ(values.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(values[static_cast<std::size_t>(i)], value_of(i));
  EXPECT_EQ(replicas.bytes(0), replicas.bytes(1));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_FALSE(replicas.at(i)->failed());
}

TEST(ParticipantTest, a_leader_that_comes_back_leads_only_in_another_epoch) {
  Replicas replicas(4);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(replicas.append(0, value_of(i)));
  ASSERT_TRUE(replicas.committed(0, Offset(10)));
  replicas.kill(0);
  replicas.restart(0);
  replicas.sim_.run_for(3s);
  EXPECT_EQ(replicas.leader(), -1) << "the catalogue still names it, but this is another life";
  ASSERT_TRUE(replicas.take_over(0));
  EXPECT_EQ(replicas.at(0)->epoch(), Epoch(replicas.partition().highest_proposed));
  ASSERT_TRUE(replicas.append(0, "more"));
  ASSERT_TRUE(replicas.well());
  EXPECT_EQ(replicas.values(2).size(), 11u);
}

TEST(ParticipantTest, who_was_away_is_fed_from_the_log_across_segments) {
  Replicas replicas(5);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  replicas.kill(2);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(replicas.append(0, value_of(i)));
  ASSERT_TRUE(replicas.committed(0, Offset(300)));
  replicas.restart(2);
  ASSERT_TRUE(replicas.well());
  EXPECT_EQ(replicas.bytes(2), replicas.bytes(0));
}

TEST(ParticipantTest, who_waits_for_a_leader_that_is_none_any_more_is_told_so) {
  Replicas replicas(9);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  EXPECT_EQ(replicas.produce(0, "all hold it"), KafkaError::kNone);
  replicas.cut(0);
  ASSERT_TRUE(replicas.append(0, "nobody else does"));
  std::optional<KafkaError> told;
  replicas.wait(0, Offset(2), told);
  ASSERT_TRUE(replicas.take_over(1));
  EXPECT_EQ(replicas.produce(1, "instead"), KafkaError::kNone);
  replicas.heal();
  // Its offset is committed by now, with another record.
  EXPECT_EQ(replicas.produce(0, "late"), KafkaError::kNotLeaderOrFollower);
  ASSERT_TRUE(replicas.well());
  EXPECT_EQ(replicas.values(0), (std::vector<std::string>{"all hold it", "instead"}));
  EXPECT_EQ(told, KafkaError::kNotLeaderOrFollower);
  // And whoever comes to wait for it only now, leading or not.
  EXPECT_EQ(replicas.wait_in(0, Offset(2), Epoch(1)), KafkaError::kNotLeaderOrFollower);
  ASSERT_TRUE(replicas.take_over(0));
  EXPECT_EQ(replicas.wait_in(0, Offset(2), Epoch(1)), KafkaError::kNotLeaderOrFollower);
  EXPECT_EQ(replicas.wait_in(0, Offset(2), replicas.at(0)->epoch()), KafkaError::kNone);
}

TEST(ParticipantTest, a_first_epoch_whose_leader_never_ran_is_recovered) {
  Replicas replicas(6);
  replicas.kill(0);
  ASSERT_TRUE(replicas.take_over(1)) << replicas.at(1)->recovery()->why();
  EXPECT_EQ(replicas.partition().current->start, Offset(0));
  ASSERT_TRUE(replicas.sim_.run_until([&] { return replicas.accepts(1); }, 5s));
  ASSERT_TRUE(replicas.append(1, "first"));
  replicas.restart(0);
  ASSERT_TRUE(replicas.well());
  EXPECT_EQ(replicas.values(0), std::vector<std::string>{"first"});
}

TEST(ParticipantTest, what_an_unclean_epoch_has_lost_is_not_taken_for_committed_later) {
  Replicas replicas(7);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(replicas.append(0, value_of(i)));
  ASSERT_TRUE(replicas.all_have(Offset(5)));
  replicas.kill(2);
  for (int i = 5; i < 10; ++i) ASSERT_TRUE(replicas.append(0, value_of(i)));
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.at(1)->high_watermark() == Offset(10); }, 5s));
  // The only one that can be asked lacks the last five, and somebody wants to go on with that.
  replicas.kill(0);
  replicas.cut(1);
  replicas.restart(2);
  replicas.sim_.run_for(100ms);
  replicas.campaign(2, true);
  replicas.sim_.run_for(7s);
  replicas.heal();
  ASSERT_TRUE(replicas.sim_.run_until([&] { return replicas.leader() == 2; }, 10s));
  EXPECT_EQ(replicas.partition().current->start, Offset(5));
  ASSERT_TRUE(replicas.sim_.run_until(
      [&] { return replicas.at(1)->following().log().end() == Offset(5); }, 5s));
  EXPECT_EQ(replicas.at(1)->high_watermark(), Offset(5));
  // It leads next, and alone: nothing of what it takes then is committed.
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return !replicas.at(1)->following().promise().in_doubt; }, 5s));
  ASSERT_TRUE(replicas.take_over(1));
  ASSERT_TRUE(replicas.sim_.run_until([&] { return replicas.accepts(1); }, 5s));
  replicas.kill(2);
  for (int i = 0; i < 3; ++i) (void)replicas.append(1, "of one only");
  replicas.sim_.run_for(3s);
  EXPECT_EQ(replicas.at(1)->following().log().end(), Offset(8));
  EXPECT_EQ(replicas.at(1)->high_watermark(), Offset(5));
}

TEST(ParticipantTest, nobody_speaks_for_an_epoch_that_the_catalogue_has_not_given_to_it) {
  Replicas replicas(8);
  ASSERT_TRUE(
      replicas.sim_.run_until([&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
  ASSERT_TRUE(replicas.sim_.run_until(
      [&] { return replicas.at(1)->following().promise().promised == Epoch(1); }, 5s));
  std::optional<Code> told;
  bool told_early = false;
  replicas.machine(1).run([&]() -> io::Task<void> {
    replicas.at(1)->take(Seal{Epoch(2147483647), NodeId(3)},
                         [&](const Result<SealAnswer>&) { told_early = true; });
    replicas.at(1)->take(Seal{Epoch(1), NodeId(2)}, [&](Result<SealAnswer> answer) {
      if (!answer) told = answer.error().code;
    });
    Append stranger;
    stranger.epoch = replicas.partition().current->epoch;
    stranger.leader = NodeId(3);
    stranger.to_boot = 1;
    stranger.active = true;
    replicas.at(1)->take(stranger, {},
                         [](std::optional<AppendReply> reply) { EXPECT_FALSE(reply); });
    co_return;
  });
  EXPECT_EQ(told, Code::kUnavailable);
  EXPECT_FALSE(told_early) << "that epoch may be news that is still on its way";
  EXPECT_EQ(replicas.at(1)->following().promise().promised, Epoch(1));
  ASSERT_TRUE(replicas.append(0, "goes on"));
  ASSERT_TRUE(replicas.all_have(Offset(1)));
}

TEST(ParticipantTest, a_candidate_that_is_the_first_to_hear_of_its_epoch_waits_for_nobody_to_ask_again) {
  int quick = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Replicas::Options options;
    options.news = 30ms;
    Replicas replicas(seed, options);
    ASSERT_TRUE(replicas.sim_.run_until(
        [&] { return replicas.leader() == 0 && replicas.accepts(0); }, 5s));
    ASSERT_TRUE(replicas.append(0, "a"));
    ASSERT_TRUE(replicas.all_have(Offset(1)));
    replicas.kill(0);
    replicas.campaign(1);
    quick += replicas.sim_.run_until([&] { return replicas.leader() == 1; }, 60ms) ? 1 : 0;
  }
  EXPECT_GE(quick, 8) << "of 10: an activation whose answer is lost is asked for again, later";
}

/// What seeds of one kind have met.
struct Met {
  std::uint64_t acknowledged = 0;
  std::uint64_t takeovers = 0;
  std::uint64_t crashes = 0;
  std::uint64_t cuts = 0;
};

void run_seed(std::uint64_t seed, Met& met) {
  Replicas::Options options;
  options.durability = seed % 3 == 0 ? Durability::kOs : Durability::kFsync;
  Replicas replicas(seed, options);
  const auto below = [&](std::uint64_t n) { return replicas.sim_.rng().below(n); };
  std::map<std::int64_t, std::string> acknowledged;
  std::map<std::int64_t, std::string> waiting;
  std::optional<std::size_t> down;
  Epoch epoch(0);
  int number = 0;
  // On a topic below fsync only the process ends, never the machine: that is another promise.
  const bool power = options.durability == Durability::kFsync;
  for (int step = 0; step < 150; ++step) {
    const auto what = below(100);
    if (what < 6 && !down) {
      down = below(3);
      power&& below(2) == 0 ? replicas.lose_power(*down) : replicas.kill(*down);
      ++met.crashes;
    } else if (what < 14 && down) {
      replicas.restart(*down);
      down.reset();
    } else if (what < 17) {
      replicas.cut(below(3));
      ++met.cuts;
    } else if (what < 25) {
      replicas.heal();
    } else if (what < 32) {
      replicas.campaign(below(3));
    } else {
      const int leads = replicas.leader();
      if (leads >= 0) {
        const auto i = static_cast<std::size_t>(leads);
        if (replicas.at(i)->epoch() != epoch) {
          epoch = replicas.at(i)->epoch();
          waiting.clear();
          ++met.takeovers;
        }
        const std::string value = std::to_string(seed) + "/" + std::to_string(number++);
        const auto at = replicas.append(i, value);
        if (at && replicas.at(i) != nullptr && replicas.at(i)->epoch() == epoch)
          waiting[at->value] = value;
      }
    }
    replicas.sim_.run_for(std::chrono::milliseconds(1 + below(120)));
    const int leads = replicas.leader();
    if (leads < 0 || replicas.at(static_cast<std::size_t>(leads))->epoch() != epoch) continue;
    const Offset committed = replicas.at(static_cast<std::size_t>(leads))->high_watermark();
    for (auto each = waiting.begin(); each != waiting.end() && each->first < committed.value;) {
      acknowledged.insert(*each);
      each = waiting.erase(each);
    }
  }
  replicas.heal();
  if (down) replicas.restart(*down);
  ASSERT_TRUE(replicas.take_over(below(3), 60s)) << "seed " << seed;
  ASSERT_TRUE(replicas.sim_.run_until(
      [&] {
        return replicas.leader() >= 0 &&
               replicas.accepts(static_cast<std::size_t>(replicas.leader()));
      },
      20s))
      << "seed " << seed;
  ASSERT_TRUE(replicas.append(static_cast<std::size_t>(replicas.leader()), "last"))
      << "seed " << seed << ": " << replicas.refused;
  ASSERT_TRUE(replicas.well()) << "seed " << seed;
  for (std::size_t i = 0; i < 3; ++i) EXPECT_FALSE(replicas.at(i)->failed()) << "seed " << seed;
  const auto values = replicas.values(0);
  for (const auto& [offset, value] : acknowledged) {
    ASSERT_LT(static_cast<std::size_t>(offset), values.size())
        << "seed " << seed << ": " << value << " is lost";
    ASSERT_EQ(values[static_cast<std::size_t>(offset)], value)
        << "seed " << seed << " at " << offset;
  }
  EXPECT_EQ(replicas.bytes(1), replicas.bytes(0)) << "seed " << seed;
  EXPECT_EQ(replicas.bytes(2), replicas.bytes(0)) << "seed " << seed;
  met.acknowledged += acknowledged.size();
}

TEST(ParticipantTest, nothing_that_was_committed_is_lost_whatever_fails) {
  Met met;
  const std::uint64_t seeds = std::getenv("PYRALOG_SOAK") != nullptr ? 2'000 : 40;
  for (std::uint64_t seed = 1; seed <= seeds && !::testing::Test::HasFailure(); ++seed)
    run_seed(seed, met);
  EXPECT_GT(met.acknowledged, seeds * 10);
  EXPECT_GT(met.takeovers, seeds);
  EXPECT_GT(met.crashes, seeds);
  EXPECT_GT(met.cuts, seeds / 2);
}

}  // namespace
}  // namespace pyralog::replica
