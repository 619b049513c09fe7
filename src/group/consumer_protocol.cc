// The bytes of Kafka's consumer protocol: what members of a classic group tell its leader, and
// back.

#include "wire/kafka/gen/consumer_protocol.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "group/assignor.h"

namespace pyralog::group {
namespace {

namespace kafka = wire::kafka;

std::unexpected<Error> corrupt(const char* what) {
  return fail(Code::kCorrupt, std::string("consumer protocol: ") + what +
                                  " does not fit its schema; its member runs other software");
}

template <typename Topic>
std::vector<Topic> by_topic(const std::vector<TopicPartition>& partitions) {
  std::map<std::string_view, Topic> topics;
  for (const auto& [topic, partition] : partitions) {
    Topic& entry = topics[topic];
    entry.topic = topic;
    entry.partitions.push_back(partition);
  }
  std::vector<Topic> all;
  for (auto& [name, topic] : topics) all.push_back(std::move(topic));
  return all;
}

template <typename Topic>
std::vector<TopicPartition> flat(const std::vector<Topic>& topics) {
  std::vector<TopicPartition> all;
  for (const Topic& t : topics) {
    for (const std::int32_t partition : t.partitions) all.emplace_back(t.topic, partition);
  }
  return all;
}

/// Version, then message; empty if a string is too long for the encoding.
template <typename Message>
Bytes encode_versioned(const Message& message, std::int16_t version) {
  kafka::Encoder out;
  out.i16(version);
  message.encode(out, version);
  return out.status() ? out.take() : Bytes{};
}

/// A newer version begins like ours, so it is read as ours and what follows is left alone.
template <typename Message>
Result<Message> decode_versioned(ByteView bytes) {
  kafka::Decoder in(bytes);
  const std::int16_t version = in.i16("version");
  if (!in.ok()) return fail(in.take_error());
  return Message::decode(in, std::min(version, Message::kMaxVersion));
}

/// StickyAssignorUserData 0 and 1 are laid out like an assignment without its user data.
void read_sticky_user_data(Subscription& subscription) {
  if (!subscription.user_data || !subscription.owned.empty()) return;
  const ByteView data = *subscription.user_data;
  if (data.size() == 4) {  // cooperative: the generation alone
    if (subscription.generation < 0) {
      subscription.generation = load_be<std::int32_t>(data.data());
    }
    return;
  }
  kafka::Decoder in(data);
  std::vector<TopicPartition> owned;
  const std::size_t topics = in.array("previous_assignment", false, 6, 64).value_or(0);
  for (std::size_t t = 0; t < topics && in.ok(); ++t) {
    const std::string topic = in.string("topic");
    const std::size_t count = in.array("partitions", false, 4, 40).value_or(0);
    for (std::size_t i = 0; i < count && in.ok(); ++i)
      owned.emplace_back(topic, in.i32("partition"));
  }
  const std::int32_t generation = in.left() >= 4 ? in.i32("generation") : -1;
  if (!in.ok() || in.left() > 0) return;  // somebody else's
  subscription.owned = std::move(owned);
  if (subscription.generation < 0) subscription.generation = generation;
}

}  // namespace

Bytes encode(const Subscription& s) {
  kafka::ConsumerProtocolSubscription wire;
  wire.topics = s.topics;
  wire.user_data = s.user_data;
  wire.owned_partitions = by_topic<kafka::ConsumerProtocolSubscription::OwnedTopic>(s.owned);
  wire.generation_id = s.generation;
  wire.rack_id = s.rack;
  return encode_versioned(wire, 3);
}

Bytes encode(const Assignment& a) {
  kafka::ConsumerProtocolAssignment wire;
  wire.assigned_partitions = by_topic<kafka::ConsumerProtocolAssignment::Topic>(a.partitions);
  wire.user_data = a.user_data;
  return encode_versioned(wire, 0);
}

Bytes encode_sticky_user_data(const std::vector<TopicPartition>& owned, std::int32_t generation) {
  kafka::Encoder out;
  const auto topics = by_topic<kafka::ConsumerProtocolAssignment::Topic>(owned);
  out.array(topics.size());
  for (const auto& t : topics) {
    out.string(t.topic);
    out.array(t.partitions.size());
    for (const std::int32_t partition : t.partitions) out.i32(partition);
  }
  out.i32(generation);
  return out.status() ? out.take() : Bytes{};
}

Result<Subscription> decode_subscription(ByteView bytes) {
  auto wire = decode_versioned<kafka::ConsumerProtocolSubscription>(bytes);
  if (!wire) return corrupt("a subscription");
  Subscription s;
  s.topics = std::move(wire->topics);
  s.user_data = std::move(wire->user_data);
  s.owned = flat(wire->owned_partitions);
  s.generation = wire->generation_id;
  s.rack = std::move(wire->rack_id);
  read_sticky_user_data(s);
  return s;
}

Result<std::vector<std::string>> decode_topics(ByteView subscription) {
  auto wire = decode_versioned<kafka::ConsumerProtocolSubscription>(subscription);
  if (!wire) return corrupt("a subscription");
  std::vector<std::string> topics = std::move(wire->topics);
  std::ranges::sort(topics);
  topics.erase(std::unique(topics.begin(), topics.end()), topics.end());
  return topics;
}

Result<Assignment> decode_assignment(ByteView bytes) {
  if (bytes.empty()) return Assignment{};
  auto wire = decode_versioned<kafka::ConsumerProtocolAssignment>(bytes);
  if (!wire) return corrupt("an assignment");
  return Assignment{flat(wire->assigned_partitions), std::move(wire->user_data)};
}

}  // namespace pyralog::group
