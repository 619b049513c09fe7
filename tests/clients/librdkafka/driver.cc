// Driver for the C API of Debian's librdkafka; protocol in ../README.md.

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kTimeoutMs = 20'000;

/// What an operation fails with; `code` is Kafka's, or a negative one of librdkafka itself.
struct Failure {
  rd_kafka_resp_err_t code;
  std::string message;
};

void check(rd_kafka_resp_err_t code) {
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw Failure{code, rd_kafka_err2str(code)};
}

void emit(const Json& line) {
  std::cout << line.dump() + "\n" << std::flush;
}

Json describe(Json line, const Failure& failure) {
  line["code"] = failure.code > 0 ? Json(static_cast<int>(failure.code)) : Json(nullptr);
  line["name"] = rd_kafka_err2name(failure.code);
  line["message"] = failure.message;
  return line;
}

Json text(const void* data, size_t size) {
  return data == nullptr ? Json(nullptr) : Json(std::string(static_cast<const char*>(data), size));
}

using Settings = std::map<std::string, std::string>;
using Handle = std::unique_ptr<rd_kafka_t, void (*)(rd_kafka_t*)>;
using Partitions =
    std::unique_ptr<rd_kafka_topic_partition_list_t, void (*)(rd_kafka_topic_partition_list_t*)>;
using Queue = std::unique_ptr<rd_kafka_queue_t, void (*)(rd_kafka_queue_t*)>;
using Event = std::unique_ptr<rd_kafka_event_t, void (*)(rd_kafka_event_t*)>;
using Message = std::unique_ptr<rd_kafka_message_t, void (*)(rd_kafka_message_t*)>;

Partitions partitions(int capacity = 8) {
  return {rd_kafka_topic_partition_list_new(capacity), rd_kafka_topic_partition_list_destroy};
}

rd_kafka_conf_t* configure(const Settings& settings) {
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char error[512];
  for (const auto& [name, value] : settings) {
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), error, sizeof error) !=
        RD_KAFKA_CONF_OK) {
      throw Failure{RD_KAFKA_RESP_ERR__INVALID_ARG, error};
    }
  }
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
  return conf;
}

Handle open(rd_kafka_type_t type, rd_kafka_conf_t* conf) {
  char error[512];
  rd_kafka_t* handle = rd_kafka_new(type, conf, error, sizeof error);
  if (handle == nullptr) throw Failure{RD_KAFKA_RESP_ERR__FAIL, error};
  if (type == RD_KAFKA_CONSUMER) rd_kafka_poll_set_consumer(handle);
  return {handle, rd_kafka_destroy};
}

/// Runs one admin request and returns its result event.
Event await_admin(rd_kafka_t* client, const std::function<void(rd_kafka_queue_t*)>& request) {
  const Queue queue(rd_kafka_queue_new(client), rd_kafka_queue_destroy);
  request(queue.get());
  Event event(rd_kafka_queue_poll(queue.get(), kTimeoutMs), rd_kafka_event_destroy);
  if (!event) check(RD_KAFKA_RESP_ERR__TIMED_OUT);
  if (const auto code = rd_kafka_event_error(event.get()); code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    throw Failure{code, rd_kafka_event_error_string(event.get())};
  }
  return event;
}

void check_topics(const rd_kafka_topic_result_t** results, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (const auto code = rd_kafka_topic_result_error(results[i])) {
      const char* message = rd_kafka_topic_result_error_string(results[i]);
      throw Failure{code, message == nullptr ? "" : message};
    }
  }
}

struct Delivery {
  std::vector<int64_t> offsets;
  std::optional<Failure> failure;
};

void on_delivery(rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
  auto* delivery = static_cast<Delivery*>(opaque);
  if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
    if (!delivery->failure)
      delivery->failure = Failure{message->err, rd_kafka_err2str(message->err)};
    return;
  }
  const auto index = reinterpret_cast<uintptr_t>(message->_private);
  delivery->offsets[index] = message->offset;
}

void produce_one(rd_kafka_t* producer, const std::string& topic, const Json& record, size_t index) {
  rd_kafka_headers_t* headers = rd_kafka_headers_new(4);
  for (const Json& header : record.value("headers", Json::array())) {
    const auto name = header[0].get<std::string>();
    const bool null = header[1].is_null();
    const auto value = null ? std::string() : header[1].get<std::string>();
    rd_kafka_header_add(headers, name.c_str(), -1, null ? nullptr : value.c_str(),
                        static_cast<ssize_t>(value.size()));
  }
  const auto field = [&](const char* name) -> std::optional<std::string> {
    if (!record.contains(name) || record[name].is_null()) return std::nullopt;
    return record[name].get<std::string>();
  };
  const auto number = [&](const char* name, int64_t other) {
    return record.contains(name) && !record[name].is_null() ? record[name].get<int64_t>() : other;
  };
  auto key = field("key");
  auto value = field("value");
  char* key_data = key ? key->data() : nullptr;
  char* value_data = value ? value->data() : nullptr;
  const size_t key_size = key ? key->size() : 0;
  const size_t value_size = value ? value->size() : 0;
  const auto partition = static_cast<int32_t>(number("partition", RD_KAFKA_PARTITION_UA));
  check(rd_kafka_producev(
      producer, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK),
      RD_KAFKA_V_KEY(key_data, key_size), RD_KAFKA_V_VALUE(value_data, value_size),
      RD_KAFKA_V_TIMESTAMP(number("timestamp", 0)), RD_KAFKA_V_HEADERS(headers),
      RD_KAFKA_V_OPAQUE(reinterpret_cast<void*>(index)), RD_KAFKA_V_END));
}

Json to_json(const rd_kafka_message_t* message) {
  Json headers = Json::array();
  rd_kafka_headers_t* found = nullptr;
  if (rd_kafka_message_headers(message, &found) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    for (size_t i = 0;
         rd_kafka_header_get_all(found, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
      headers.push_back(Json::array({name, text(value, size)}));
    }
  }
  rd_kafka_timestamp_type_t type{};
  return {{"offset", message->offset},
          {"timestamp", rd_kafka_message_timestamp(message, &type)},
          {"key", text(message->key, message->key_len)},
          {"value", text(message->payload, message->len)},
          {"headers", std::move(headers)}};
}

class Driver {
 public:
  explicit Driver(std::string bootstrap) : bootstrap_(std::move(bootstrap)) { install(); }

  [[nodiscard]] bool is_member() const { return member_ != nullptr; }

  void answer(const Json& request) {
    Json line{{"id", request["id"]}, {"ok", true}};
    try {
      const auto op = ops_.find(request["op"].get<std::string>());
      if (op == ops_.end()) throw Failure{RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED, "unknown op"};
      if (const Json result = op->second(request); result.is_object()) line.update(result);
    } catch (const Failure& failure) {
      line = describe({{"id", request["id"]}, {"ok", false}}, failure);
    }
    emit(line);
  }

  void poll_member() {
    bool any = false;
    for (int i = 0; i < 50; ++i) {
      const Message message(rd_kafka_consumer_poll(member_.get(), any ? 0 : 100),
                            rd_kafka_message_destroy);
      if (!message) break;
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail_member({message->err, rd_kafka_message_errstr(message.get())});
        return;
      }
      any = true;
      emit({{"event", "record"},
            {"topic", rd_kafka_topic_name(message->rkt)},
            {"partition", message->partition},
            {"offset", message->offset},
            {"value", text(message->payload, message->len)}});
    }
    if (!any || !commit_each_) return;
    try {
      commit_now();
    } catch (const Failure& failure) {
      fail_member(failure);
    }
  }

 private:
  void install();
  void install_groups();

  rd_kafka_t* admin() {
    if (!admin_) {
      admin_ = open(RD_KAFKA_PRODUCER, configure({{"bootstrap.servers", bootstrap_}}));
    }
    return admin_.get();
  }

  Handle consumer(const std::string& group = "unused", const Settings& more = {}) {
    Settings settings{{"bootstrap.servers", bootstrap_},      {"group.id", group},
                      {"enable.auto.commit", "false"},        {"fetch.wait.max.ms", "100"},
                      {"fetch.message.max.bytes", "4000000"}, {"reconnect.backoff.ms", "20"},
                      {"reconnect.backoff.max.ms", "200"}};
    for (const auto& [name, value] : more) settings[name] = value;
    return open(RD_KAFKA_CONSUMER, configure(settings));
  }

  static Partitions one(const Json& request, int64_t offset = RD_KAFKA_OFFSET_INVALID) {
    Partitions list = partitions(1);
    rd_kafka_topic_partition_list_add(list.get(), request["topic"].get<std::string>().c_str(),
                                      request["partition"].get<int32_t>())
        ->offset = offset;
    return list;
  }

  Json create_topic(const Json& request);
  Json delete_topic(const Json& request);
  Json create_partitions(const Json& request);
  Json list_topics();
  Json describe_configs(const Json& request);
  Json alter_configs(const Json& request);
  Json produce(const Json& request);
  Json fetch(const Json& request);
  Json offset_for_time(const Json& request);
  Json watermarks(const Json& request);
  Json commit(const Json& request);
  Json committed(const Json& request);
  Json list_groups();
  Json describe_group(const Json& request);
  Json delete_group(const Json& request);
  Json join(const Json& request);
  void commit_now();
  void fail_member(const Failure& failure);
  void show_held();
  static void on_rebalance(rd_kafka_t* client, rd_kafka_resp_err_t code,
                           rd_kafka_topic_partition_list_t* list, void* opaque);

  std::string bootstrap_;
  std::map<std::string, std::function<Json(const Json&)>> ops_;
  Handle admin_{nullptr, rd_kafka_destroy};
  Handle member_{nullptr, rd_kafka_destroy};
  bool commit_each_ = false;
  std::set<std::pair<std::string, int32_t>> held_;
};

Json Driver::create_topic(const Json& request) {
  char error[512];
  rd_kafka_NewTopic_t* topic = rd_kafka_NewTopic_new(
      request["topic"].get<std::string>().c_str(), request.value("partitions", 1),
      request.value("replication_factor", 1), error, sizeof error);
  if (topic == nullptr) throw Failure{RD_KAFKA_RESP_ERR__INVALID_ARG, error};
  for (const auto& [name, value] : request.value("configs", Json::object()).items()) {
    rd_kafka_NewTopic_set_config(topic, name.c_str(), value.get<std::string>().c_str());
  }
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_CreateTopics(admin(), &topic, 1, nullptr, queue);
  });
  rd_kafka_NewTopic_destroy(topic);
  size_t count = 0;
  const auto* result = rd_kafka_event_CreateTopics_result(event.get());
  check_topics(rd_kafka_CreateTopics_result_topics(result, &count), count);
  return {};
}

Json Driver::delete_topic(const Json& request) {
  rd_kafka_DeleteTopic_t* topic =
      rd_kafka_DeleteTopic_new(request["topic"].get<std::string>().c_str());
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_DeleteTopics(admin(), &topic, 1, nullptr, queue);
  });
  rd_kafka_DeleteTopic_destroy(topic);
  size_t count = 0;
  const auto* result = rd_kafka_event_DeleteTopics_result(event.get());
  check_topics(rd_kafka_DeleteTopics_result_topics(result, &count), count);
  return {};
}

Json Driver::create_partitions(const Json& request) {
  char error[512];
  rd_kafka_NewPartitions_t* wanted =
      rd_kafka_NewPartitions_new(request["topic"].get<std::string>().c_str(),
                                 request["total"].get<size_t>(), error, sizeof error);
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_CreatePartitions(admin(), &wanted, 1, nullptr, queue);
  });
  rd_kafka_NewPartitions_destroy(wanted);
  size_t count = 0;
  const auto* result = rd_kafka_event_CreatePartitions_result(event.get());
  check_topics(rd_kafka_CreatePartitions_result_topics(result, &count), count);
  return {};
}

Json Driver::list_topics() {
  const rd_kafka_metadata_t* found = nullptr;
  check(rd_kafka_metadata(admin(), 1, nullptr, &found, kTimeoutMs));
  Json topics = Json::object();
  for (int i = 0; i < found->topic_cnt; ++i) {
    topics[found->topics[i].topic] = found->topics[i].partition_cnt;
  }
  rd_kafka_metadata_destroy(found);
  return {{"topics", std::move(topics)}};
}

Json Driver::describe_configs(const Json& request) {
  rd_kafka_ConfigResource_t* resource = rd_kafka_ConfigResource_new(
      RD_KAFKA_RESOURCE_TOPIC, request["topic"].get<std::string>().c_str());
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_DescribeConfigs(admin(), &resource, 1, nullptr, queue);
  });
  rd_kafka_ConfigResource_destroy(resource);
  size_t count = 0;
  const auto** resources = rd_kafka_DescribeConfigs_result_resources(
      rd_kafka_event_DescribeConfigs_result(event.get()), &count);
  check(rd_kafka_ConfigResource_error(resources[0]));
  const auto** entries = rd_kafka_ConfigResource_configs(resources[0], &count);
  Json configs = Json::object();
  for (size_t i = 0; i < count; ++i) {
    const char* value = rd_kafka_ConfigEntry_value(entries[i]);
    configs[rd_kafka_ConfigEntry_name(entries[i])] = value == nullptr ? Json(nullptr) : Json(value);
  }
  return {{"configs", std::move(configs)}};
}

Json Driver::alter_configs(const Json& request) {
  rd_kafka_ConfigResource_t* resource = rd_kafka_ConfigResource_new(
      RD_KAFKA_RESOURCE_TOPIC, request["topic"].get<std::string>().c_str());
  for (const auto& [name, value] : request["configs"].items()) {
    rd_kafka_ConfigResource_set_config(resource, name.c_str(), value.get<std::string>().c_str());
  }
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_AlterConfigs(admin(), &resource, 1, nullptr, queue);
  });
  rd_kafka_ConfigResource_destroy(resource);
  size_t count = 0;
  const auto** resources = rd_kafka_AlterConfigs_result_resources(
      rd_kafka_event_AlterConfigs_result(event.get()), &count);
  check(rd_kafka_ConfigResource_error(resources[0]));
  return {};
}

Json Driver::produce(const Json& request) {
  Delivery delivery;
  delivery.offsets.assign(request["records"].size(), -1);
  rd_kafka_conf_t* conf = configure({
      {"bootstrap.servers", request.value("bootstrap", bootstrap_)},
      {"compression.type", request.value("codec", "none")},
      {"acks", request.value("acks", "all")},
      {"enable.idempotence", request.value("idempotent", false) ? "true" : "false"},
      {"message.max.bytes", "4000000"},
      {"linger.ms", "5"},
      {"batch.num.messages", std::to_string(request.value("batch", 10'000))},
      {"message.timeout.ms", "60000"},
      {"retry.backoff.ms", "20"},
      {"reconnect.backoff.ms", "10"},
      {"reconnect.backoff.max.ms", "100"},
  });
  rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
  rd_kafka_conf_set_opaque(conf, &delivery);
  const Handle producer = open(RD_KAFKA_PRODUCER, conf);
  const auto topic = request["topic"].get<std::string>();
  size_t index = 0;
  for (const Json& record : request["records"]) {
    produce_one(producer.get(), topic, record, index++);
    rd_kafka_poll(producer.get(), 0);
  }
  check(rd_kafka_flush(producer.get(), 70'000));
  if (delivery.failure) throw *delivery.failure;
  return {{"offsets", delivery.offsets}};
}

/// A consumer that was assigned, not subscribed, is not told of an unknown topic: ask.
void check_topic(rd_kafka_t* client, const std::string& name) {
  rd_kafka_topic_t* topic = rd_kafka_topic_new(client, name.c_str(), nullptr);
  const rd_kafka_metadata_t* found = nullptr;
  const auto code = rd_kafka_metadata(client, 0, topic, &found, kTimeoutMs);
  rd_kafka_topic_destroy(topic);
  check(code);
  const auto error = found->topics[0].err;
  rd_kafka_metadata_destroy(found);
  check(error);
}

Json Driver::fetch(const Json& request) {
  const Handle consumer =
      this->consumer("unused", {{"isolation.level", request.value("isolation", "read_committed")},
                                {"auto.offset.reset", "error"},
                                {"allow.auto.create.topics", "false"}});
  check_topic(consumer.get(), request["topic"].get<std::string>());
  const Json& from = request["from"];
  const int64_t start = from.is_number()     ? from.get<int64_t>()
                        : from == "earliest" ? RD_KAFKA_OFFSET_BEGINNING
                                             : RD_KAFKA_OFFSET_END;
  check(rd_kafka_assign(consumer.get(), one(request, start).get()));
  const auto deadline =
      Clock::now() + std::chrono::milliseconds(request.value("timeout_ms", 10'000));
  const auto wanted = request["count"].get<size_t>();
  Json records = Json::array();
  std::optional<Failure> failure;
  while (records.size() < wanted && Clock::now() < deadline && !failure) {
    const Message message(rd_kafka_consumer_poll(consumer.get(), 200), rd_kafka_message_destroy);
    if (!message) continue;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      failure = Failure{message->err, rd_kafka_message_errstr(message.get())};
    } else {
      records.push_back(to_json(message.get()));
    }
  }
  rd_kafka_consumer_close(consumer.get());
  if (failure) throw *failure;
  return {{"records", std::move(records)}};
}

Json Driver::offset_for_time(const Json& request) {
  const Handle consumer = this->consumer();
  const Partitions wanted = one(request, request["timestamp"].get<int64_t>());
  check(rd_kafka_offsets_for_times(consumer.get(), wanted.get(), kTimeoutMs));
  check(wanted->elems[0].err);
  return {{"offset", std::max<int64_t>(wanted->elems[0].offset, -1)}};
}

Json Driver::watermarks(const Json& request) {
  const Handle consumer = this->consumer();
  int64_t low = 0;
  int64_t high = 0;
  check(rd_kafka_query_watermark_offsets(
      consumer.get(), request["topic"].get<std::string>().c_str(),
      request["partition"].get<int32_t>(), &low, &high, kTimeoutMs));
  return {{"low", low}, {"high", high}};
}

Json Driver::commit(const Json& request) {
  const Handle consumer = this->consumer(request["group"].get<std::string>());
  const Partitions wanted = partitions();
  for (const auto& [partition, offset] : request["offsets"].items()) {
    rd_kafka_topic_partition_list_add(wanted.get(), request["topic"].get<std::string>().c_str(),
                                      std::stoi(partition))
        ->offset = offset.get<int64_t>();
  }
  check(rd_kafka_commit(consumer.get(), wanted.get(), 0));
  rd_kafka_consumer_close(consumer.get());
  return {};
}

Json Driver::committed(const Json& request) {
  const Handle consumer = this->consumer(request["group"].get<std::string>());
  const Partitions wanted = partitions();
  for (const Json& partition : request["partitions"]) {
    rd_kafka_topic_partition_list_add(wanted.get(), request["topic"].get<std::string>().c_str(),
                                      partition.get<int32_t>());
  }
  check(rd_kafka_committed(consumer.get(), wanted.get(), kTimeoutMs));
  Json offsets = Json::object();
  for (int i = 0; i < wanted->cnt; ++i) {
    offsets[std::to_string(wanted->elems[i].partition)] =
        std::max<int64_t>(wanted->elems[i].offset, -1);
  }
  return {{"offsets", std::move(offsets)}};
}

Json Driver::list_groups() {
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_ListConsumerGroups(admin(), nullptr, queue);
  });
  size_t count = 0;
  const auto** found = rd_kafka_ListConsumerGroups_result_valid(
      rd_kafka_event_ListConsumerGroups_result(event.get()), &count);
  Json groups = Json::array();
  for (size_t i = 0; i < count; ++i) {
    groups.push_back(rd_kafka_ConsumerGroupListing_group_id(found[i]));
  }
  return {{"groups", std::move(groups)}};
}

Json Driver::describe_group(const Json& request) {
  const auto group = request["group"].get<std::string>();
  const char* names[] = {group.c_str()};
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_DescribeConsumerGroups(admin(), names, 1, nullptr, queue);
  });
  size_t count = 0;
  const auto** found = rd_kafka_DescribeConsumerGroups_result_groups(
      rd_kafka_event_DescribeConsumerGroups_result(event.get()), &count);
  if (const auto* error = rd_kafka_ConsumerGroupDescription_error(found[0])) {
    throw Failure{rd_kafka_error_code(error), rd_kafka_error_string(error)};
  }
  std::string state =
      rd_kafka_consumer_group_state_name(rd_kafka_ConsumerGroupDescription_state(found[0]));
  for (char& letter : state) letter = static_cast<char>(std::toupper(letter));
  return {{"state", state}, {"members", rd_kafka_ConsumerGroupDescription_member_count(found[0])}};
}

Json Driver::delete_group(const Json& request) {
  rd_kafka_DeleteGroup_t* group =
      rd_kafka_DeleteGroup_new(request["group"].get<std::string>().c_str());
  const Event event = await_admin(admin(), [&](rd_kafka_queue_t* queue) {
    rd_kafka_DeleteGroups(admin(), &group, 1, nullptr, queue);
  });
  rd_kafka_DeleteGroup_destroy(group);
  size_t count = 0;
  const auto** found =
      rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(event.get()), &count);
  if (const auto* error = rd_kafka_group_result_error(found[0])) {
    throw Failure{rd_kafka_error_code(error), rd_kafka_error_string(error)};
  }
  return {};
}

void Driver::on_rebalance(rd_kafka_t* client, rd_kafka_resp_err_t code,
                          rd_kafka_topic_partition_list_t* list, void* opaque) {
  auto* driver = static_cast<Driver*>(opaque);
  const bool cooperative = std::string(rd_kafka_rebalance_protocol(client)) == "COOPERATIVE";
  const bool assigned = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
  if (cooperative) {
    rd_kafka_error_t* error = assigned ? rd_kafka_incremental_assign(client, list)
                                       : rd_kafka_incremental_unassign(client, list);
    if (error != nullptr) rd_kafka_error_destroy(error);
  } else {
    rd_kafka_assign(client, assigned ? list : nullptr);
  }
  for (int i = 0; i < list->cnt; ++i) {
    const std::pair<std::string, int32_t> one{list->elems[i].topic, list->elems[i].partition};
    if (assigned) {
      driver->held_.insert(one);
    } else {
      driver->held_.erase(one);
    }
  }
  driver->show_held();
}

void Driver::show_held() {
  Json list = Json::array();
  for (const auto& [topic, partition] : held_) list.push_back(Json::array({topic, partition}));
  emit({{"event", "assigned"}, {"partitions", std::move(list)}});
}

Json Driver::join(const Json& request) {
  const auto reset = request["reset"].get<std::string>();
  Settings settings{
      {"bootstrap.servers", bootstrap_},
      {"group.id", request["group"].get<std::string>()},
      {"enable.auto.commit", "false"},
      {"fetch.wait.max.ms", "100"},
      {"auto.offset.reset", reset == "none" ? "error" : reset},
      {"session.timeout.ms", std::to_string(request["session_timeout_ms"].get<int>())},
      {"heartbeat.interval.ms", "500"},
      {"partition.assignment.strategy", request.value("strategy", "range")},
      {"topic.metadata.refresh.interval.ms", "1000"},
  };
  if (request.contains("instance_id") && !request["instance_id"].is_null()) {
    settings["group.instance.id"] = request["instance_id"].get<std::string>();
  }
  if (request.contains("rack")) settings["client.rack"] = request["rack"].get<std::string>();
  commit_each_ = request.value("commit", "manual") == "each";
  held_.clear();
  rd_kafka_conf_t* conf = configure(settings);
  rd_kafka_conf_set_opaque(conf, this);
  rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
  Handle member = open(RD_KAFKA_CONSUMER, conf);
  const Partitions topics = partitions();
  if (request.contains("pattern") && !request["pattern"].is_null()) {
    rd_kafka_topic_partition_list_add(topics.get(), request["pattern"].get<std::string>().c_str(),
                                      RD_KAFKA_PARTITION_UA);
  } else {
    for (const Json& topic : request["topics"]) {
      rd_kafka_topic_partition_list_add(topics.get(), topic.get<std::string>().c_str(),
                                        RD_KAFKA_PARTITION_UA);
    }
  }
  check(rd_kafka_subscribe(member.get(), topics.get()));
  member_ = std::move(member);
  return {};
}

void Driver::commit_now() {
  const auto code = rd_kafka_commit(member_.get(), nullptr, 0);
  if (code != RD_KAFKA_RESP_ERR__NO_OFFSET) check(code);
}

void Driver::fail_member(const Failure& failure) {
  Failure told = failure;
  char reason[512];
  if (failure.code == RD_KAFKA_RESP_ERR__FATAL) {
    told.code = rd_kafka_fatal_error(member_.get(), reason, sizeof reason);
    told.message = reason;
  }
  emit(describe({{"event", "error"}}, told));
  member_.reset();
}

void Driver::install() {
  ops_["hello"] = [](const Json&) {
    return Json{{"client", std::string("librdkafka ") + rd_kafka_version_str()}};
  };
  ops_["create_topic"] = [this](const Json& r) { return create_topic(r); };
  ops_["delete_topic"] = [this](const Json& r) { return delete_topic(r); };
  ops_["create_partitions"] = [this](const Json& r) { return create_partitions(r); };
  ops_["list_topics"] = [this](const Json&) { return list_topics(); };
  ops_["describe_configs"] = [this](const Json& r) { return describe_configs(r); };
  ops_["alter_configs"] = [this](const Json& r) { return alter_configs(r); };
  ops_["produce"] = [this](const Json& r) { return produce(r); };
  ops_["fetch"] = [this](const Json& r) { return fetch(r); };
  ops_["offset_for_time"] = [this](const Json& r) { return offset_for_time(r); };
  ops_["watermarks"] = [this](const Json& r) { return watermarks(r); };
  install_groups();
}

void Driver::install_groups() {
  ops_["commit"] = [this](const Json& r) { return commit(r); };
  ops_["committed"] = [this](const Json& r) { return committed(r); };
  ops_["list_groups"] = [this](const Json&) { return list_groups(); };
  ops_["describe_group"] = [this](const Json& r) { return describe_group(r); };
  ops_["delete_group"] = [this](const Json& r) { return delete_group(r); };
  ops_["join"] = [this](const Json& r) { return join(r); };
  ops_["commit_now"] = [this](const Json&) {
    commit_now();
    return Json::object();
  };
  ops_["pause"] = [this](const Json& r) {
    check(rd_kafka_pause_partitions(member_.get(), one(r).get()));
    return Json::object();
  };
  ops_["resume"] = [this](const Json& r) {
    check(rd_kafka_resume_partitions(member_.get(), one(r).get()));
    return Json::object();
  };
  ops_["leave"] = [this](const Json&) {
    if (member_) rd_kafka_consumer_close(member_.get());
    member_.reset();
    return Json::object();
  };
}

/// Lines of standard input, read by a thread of their own so that a member can poll meanwhile.
class Requests {
 public:
  Requests() : reader_([this] { read(); }) {}
  ~Requests() { reader_.join(); }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  /// The next line; nothing if there is none yet and `wait` is false, or after the end.
  std::optional<std::string> next(bool wait) {
    std::unique_lock lock(mutex_);
    if (wait) changed_.wait(lock, [this] { return ended_ || !lines_.empty(); });
    if (lines_.empty()) return std::nullopt;
    std::string line = std::move(lines_.front());
    lines_.pop_front();
    return line;
  }

  bool ended() {
    const std::lock_guard lock(mutex_);
    return ended_ && lines_.empty();
  }

 private:
  void read() {
    std::string line;
    while (std::getline(std::cin, line)) push(line, false);
    push("", true);
  }

  void push(const std::string& line, bool end) {
    const std::lock_guard lock(mutex_);
    if (end) {
      ended_ = true;
    } else {
      lines_.push_back(line);
    }
    changed_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;
  bool ended_ = false;
  std::thread reader_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: librdkafka_driver BOOTSTRAP\n";
    return 2;
  }
  Driver driver(argv[1]);
  Requests requests;
  while (!requests.ended()) {
    if (const auto line = requests.next(!driver.is_member())) {
      driver.answer(Json::parse(*line));
    } else if (driver.is_member()) {
      driver.poll_member();
    }
  }
  return 0;
}
