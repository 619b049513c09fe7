// The bytes of Kafka's consumer protocol: what members of a classic group tell its leader, and back.

#include <algorithm>
#include <map>

#include "group/assignor.h"

namespace pyralog::group {
namespace {

std::unexpected<Error> corrupt(const char* what) {
  return fail(Code::kCorrupt, std::string("consumer protocol: ") + what +
                                  " does not fit its schema; its member runs other software");
}

void put_text(Writer& out, std::string_view text) {
  out.be(static_cast<std::int16_t>(text.size())).raw(as_bytes(text));
}
void put_nullable(Writer& out, const std::optional<Bytes>& bytes) {
  out.be(bytes ? static_cast<std::int32_t>(bytes->size()) : std::int32_t{-1});
  if (bytes) out.raw(*bytes);
}
void put_partitions(Writer& out, const std::vector<TopicPartition>& partitions) {
  std::map<std::string_view, std::vector<std::int32_t>> topics;
  for (const auto& [topic, partition] : partitions) topics[topic].push_back(partition);
  out.be(static_cast<std::int32_t>(topics.size()));
  for (const auto& [topic, numbers] : topics) {
    put_text(out, topic);
    out.be(static_cast<std::int32_t>(numbers.size()));
    for (const std::int32_t number : numbers) out.be(number);
  }
}

/// Reads with a sticky failure, like base::Reader, and knows Kafka's lengths.
struct Fields {
  Reader in;
  bool sound = true;

  std::size_t length(std::int64_t raw, std::size_t least) {
    if (raw >= 0 && in.ok() && static_cast<std::size_t>(raw) <= in.left() / least) {
      return static_cast<std::size_t>(raw);
    }
    sound = false;
    return 0;
  }
  std::string text() { return std::string(as_text(in.raw(length(in.be<std::int16_t>(), 1)))); }
  std::optional<std::string> nullable_text() {
    const auto raw = in.be<std::int16_t>();
    if (raw == -1) return std::nullopt;
    return std::string(as_text(in.raw(length(raw, 1))));
  }
  std::optional<Bytes> nullable_bytes() {
    const auto raw = in.be<std::int32_t>();
    if (raw == -1) return std::nullopt;
    const ByteView view = in.raw(length(raw, 1));
    return Bytes(view.begin(), view.end());
  }
  std::vector<TopicPartition> partitions() {
    std::vector<TopicPartition> all;
    const std::size_t topics = length(in.be<std::int32_t>(), 6);
    for (std::size_t t = 0; t < topics && sound; ++t) {
      const std::string topic = text();
      const std::size_t count = length(in.be<std::int32_t>(), 4);
      for (std::size_t i = 0; i < count; ++i) all.emplace_back(topic, in.be<std::int32_t>());
    }
    return all;
  }
  [[nodiscard]] bool ok() const { return sound && in.ok(); }
};

/// The Java client's sticky assignors put their memory here; anything else is left alone.
void read_sticky_user_data(Subscription& subscription) {
  if (!subscription.user_data || !subscription.owned.empty()) return;
  if (subscription.user_data->size() == 4) {  // cooperative: the generation alone
    if (subscription.generation < 0) {
      subscription.generation = load_be<std::int32_t>(subscription.user_data->data());
    }
    return;
  }
  Fields f{Reader(*subscription.user_data)};
  std::vector<TopicPartition> owned = f.partitions();
  const std::int32_t generation = f.in.left() >= 4 ? f.in.be<std::int32_t>() : -1;
  if (!f.ok() || !f.in.done()) return;
  subscription.owned = std::move(owned);
  if (subscription.generation < 0) subscription.generation = generation;
}

}  // namespace

Bytes encode(const Subscription& s) {
  Writer out;
  out.be(std::int16_t{3});
  out.be(static_cast<std::int32_t>(s.topics.size()));
  for (const std::string& topic : s.topics) put_text(out, topic);
  put_nullable(out, s.user_data);
  put_partitions(out, s.owned);
  out.be(s.generation);
  if (s.rack) {
    put_text(out, *s.rack);
  } else {
    out.be(std::int16_t{-1});
  }
  return out.take();
}

Bytes encode(const Assignment& a) {
  Writer out;
  out.be(std::int16_t{0});
  put_partitions(out, a.partitions);
  put_nullable(out, a.user_data);
  return out.take();
}

Bytes encode_sticky_user_data(const std::vector<TopicPartition>& owned, std::int32_t generation) {
  Writer out;
  put_partitions(out, owned);
  out.be(generation);
  return out.take();
}

Result<Subscription> decode_subscription(ByteView bytes) {
  Fields f{Reader(bytes)};
  const auto version = f.in.be<std::int16_t>();
  if (version < 0) return corrupt("a subscription");
  Subscription s;
  const std::size_t topics = f.length(f.in.be<std::int32_t>(), 2);
  for (std::size_t i = 0; i < topics && f.ok(); ++i) s.topics.push_back(f.text());
  s.user_data = f.nullable_bytes();
  if (version >= 1) s.owned = f.partitions();
  if (version >= 2) s.generation = f.in.be<std::int32_t>();
  if (version >= 3) s.rack = f.nullable_text();
  if (!f.ok()) return corrupt("a subscription");
  read_sticky_user_data(s);
  return s;
}

Result<Assignment> decode_assignment(ByteView bytes) {
  Assignment a;
  if (bytes.empty()) return a;
  Fields f{Reader(bytes)};
  if (f.in.be<std::int16_t>() < 0) return corrupt("an assignment");
  a.partitions = f.partitions();
  a.user_data = f.nullable_bytes();
  if (!f.ok()) return corrupt("an assignment");
  return a;
}

}  // namespace pyralog::group
