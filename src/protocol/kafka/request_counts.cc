#include "protocol/kafka/request_counts.h"

#include <algorithm>

#include "base/plant.h"
#include "model/kafka_error.h"
#include "protocol/kafka/error_names.h"
#include "protocol/kafka/service.h"

namespace pyralog::protocol::kafka {

TopicTraffic& TopicTraffic::operator+=(const TopicTraffic& other) {
  produced_records += other.produced_records;
  produced_bytes += other.produced_bytes;
  fetched_records += other.fetched_records;
  fetched_bytes += other.fetched_bytes;
  return *this;
}

RequestCounts::RequestCounts(observe::Registry* registry) : registry_(registry) {
  if (registry_ == nullptr) return;
  constexpr auto kSeconds = observe::Unit::kSeconds;
  for (const OfferedApi& offered : offered_apis()) {
    const std::string name = wire::find_api(static_cast<std::int16_t>(offered.key))->name;
    const observe::Labels labels{{"api", name}};
    Api& api = apis_.emplace_back();
    api.name = name;
    api.queued = &registry_->histogram(
        "pyralog_kafka_request_queue_seconds",
        "From a request's last byte until it is begun: others of its connection come first", kSeconds,
        labels);
    api.served = &registry_->histogram(
        "pyralog_kafka_request_seconds",
        "From a request's dispatch until its answer is ready; a Fetch may wait for records", kSeconds,
        labels);
    api.whole = &registry_->histogram(
        "pyralog_kafka_request_total_seconds",
        "From a request's last byte until the system has taken the last of its answer", kSeconds, labels);
    api.request_bytes = &registry_->counter("pyralog_kafka_request_bytes_total",
                                            "Bytes of the requests that were served", labels);
    api.response_bytes = &registry_->counter("pyralog_kafka_response_bytes_total",
                                             "Bytes of the answers to them, records included", labels);
  }
  refused_ = &registry_->counter("pyralog_kafka_requests_refused_total",
                                 "Requests that could not be read or are not offered; each ended its "
                                 "connection");
  produced_records_ =
      &registry_->counter("pyralog_kafka_produced_records_total", "Records that clients have written");
  produced_bytes_ = &registry_->counter("pyralog_kafka_produced_bytes_total",
                                        "Bytes of record batches that clients have written");
  fetched_records_ = &registry_->counter("pyralog_kafka_fetched_records_total",
                                         "Records that clients were sent, by their offsets");
  fetched_bytes_ = &registry_->counter("pyralog_kafka_fetched_bytes_total",
                                       "Bytes of record batches that clients were sent");
}

void RequestCounts::begun(std::size_t api, std::size_t bytes, Duration queued) {
  if (apis_.empty()) return;
  apis_[api].request_bytes->add(bytes);
  apis_[api].queued->record(queued);
}

void RequestCounts::served(std::size_t api, Duration took, Reply& reply) {
  if (apis_.empty()) return;
  Api& one = apis_[api];
  one.served->record(took);
  one.response_bytes->add(size_of(reply));
  reply.whole = one.whole;
  if (!reply.errors.empty()) note_errors(one, reply.errors);
}

void RequestCounts::note_errors(Api& api, const ErrorCounts& errors) {
  if (PYRALOG_PLANT("kafka.errors_are_not_counted")) return;
  for (const auto& [code, count] : errors.all()) {
    observe::Counter*& counter = api.errors[code];
    if (counter == nullptr) {
      counter = &registry_->counter(
          "pyralog_kafka_errors_total", "Errors in answers, one for each partition or other part",
          {{"api", api.name}, {"error", std::string(error_name(static_cast<KafkaError>(code)))}});
    }
    counter->add(count);
  }
}

void RequestCounts::refused() {
  if (refused_ != nullptr) refused_->add();
}

TopicTraffic* RequestCounts::traffic(std::string_view topic) {
  const auto known = topics_.find(topic);
  if (known != topics_.end()) return &known->second;
  if (topics_.size() >= kMaxTopics) return nullptr;
  return &topics_.emplace(std::string(topic), TopicTraffic{}).first->second;
}

void RequestCounts::produced(std::string_view topic, std::int64_t records, std::uint64_t bytes) {
  if (apis_.empty()) return;
  const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(records, 0));
  produced_records_->add(count);
  produced_bytes_->add(bytes);
  if (TopicTraffic* const one = traffic(topic)) {
    *one += TopicTraffic{.produced_records = count, .produced_bytes = bytes};
  }
}

void RequestCounts::fetched(std::string_view topic, std::int64_t records, std::uint64_t bytes) {
  if (apis_.empty()) return;
  const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(records, 0));
  fetched_records_->add(count);
  fetched_bytes_->add(bytes);
  if (TopicTraffic* const one = traffic(topic)) {
    *one += TopicTraffic{.fetched_records = count, .fetched_bytes = bytes};
  }
}

}  // namespace pyralog::protocol::kafka
