// Driver for the Java client of Apache Kafka; protocol in ../README.md.
// Runs from source: java -cp '.deps/java/*' Driver.java BOOTSTRAP

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

public final class Driver {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Map<String, String> ASSIGNORS = Map.of(
      "range", "org.apache.kafka.clients.consumer.RangeAssignor",
      "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
      "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
      "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

  private final String bootstrap;
  private Admin admin;
  private KafkaConsumer<String, String> member;
  private boolean commitEach;
  private final Set<TopicPartition> held = new HashSet<>();

  private Driver(String bootstrap) {
    this.bootstrap = bootstrap;
  }

  public static void main(String[] arguments) throws Exception {
    Driver driver = new Driver(arguments[0]);
    BlockingQueue<Optional<JsonNode>> requests = new LinkedBlockingQueue<>();
    Thread reader = new Thread(() -> read(requests));
    reader.setDaemon(true);
    reader.start();
    while (true) {
      Optional<JsonNode> next = driver.member == null ? requests.take() : requests.poll();
      if (next == null) {
        driver.pollMember();
      } else if (next.isEmpty()) {
        System.exit(0);
      } else {
        driver.answer(next.get());
      }
    }
  }

  private static void read(BlockingQueue<Optional<JsonNode>> requests) {
    try (BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        requests.put(Optional.of(JSON.readTree(line)));
      }
      requests.put(Optional.empty());
    } catch (Exception error) {
      System.exit(1);
    }
  }

  private static synchronized void emit(ObjectNode line) {
    byte[] bytes = (line.toString() + "\n").getBytes(StandardCharsets.UTF_8);
    System.out.write(bytes, 0, bytes.length);
    System.out.flush();
  }

  private static ObjectNode describe(ObjectNode line, Throwable error) {
    Throwable cause = error;
    while (cause instanceof ExecutionException && cause.getCause() != null) {
      cause = cause.getCause();
    }
    line.putNull("code");
    if (cause instanceof CommitFailedException) {
      line.put("code", Errors.UNKNOWN_MEMBER_ID.code());
    } else if (cause instanceof ApiException) {
      Errors known = Errors.forException(cause);
      if (known != Errors.UNKNOWN_SERVER_ERROR) {
        line.put("code", known.code());
      }
    }
    return line.put("name", cause.getClass().getSimpleName())
        .put("message", String.valueOf(cause.getMessage()));
  }

  private void answer(JsonNode request) {
    ObjectNode line = JSON.createObjectNode().put("id", request.get("id").asInt());
    try {
      dispatch(request, line);
      emit(line.put("ok", true));
    } catch (Exception error) {
      emit(describe(line.removeAll().put("id", request.get("id").asInt()).put("ok", false), error));
    }
  }

  private void dispatch(JsonNode request, ObjectNode out) throws Exception {
    switch (request.get("op").asText()) {
      case "hello" -> out.put("client", "kafka-clients " + AppInfoParser.getVersion());
      case "create_topic" -> createTopic(request);
      case "delete_topic" -> get(admin().deleteTopics(List.of(topic(request))).all());
      case "create_partitions" -> get(admin().createPartitions(
          Map.of(topic(request), NewPartitions.increaseTo(request.get("total").asInt()))).all());
      case "list_topics" -> listTopics(out);
      case "describe_configs" -> describeConfigs(request, out);
      case "alter_configs" -> alterConfigs(request);
      case "produce" -> produce(request, out);
      case "fetch" -> fetch(request, out);
      case "offset_for_time" -> offsetForTime(request, out);
      case "watermarks" -> watermarks(request, out);
      case "commit" -> commit(request);
      case "committed" -> committed(request, out);
      case "list_groups" -> {
        ArrayNode groups = out.putArray("groups");
        for (GroupListing group : get(admin().listGroups().all())) {
          groups.add(group.groupId());
        }
      }
      case "describe_group" -> {
        String group = request.get("group").asText();
        var found = get(admin().describeConsumerGroups(List.of(group)).all()).get(group);
        out.put("state", found.groupState().name()).put("members", found.members().size());
      }
      case "delete_group" ->
          get(admin().deleteConsumerGroups(List.of(request.get("group").asText())).all());
      case "join" -> join(request);
      case "commit_now" -> member.commitSync();
      case "pause" -> member.pause(List.of(partition(request)));
      case "resume" -> member.resume(List.of(partition(request)));
      case "leave" -> {
        if (member != null) {
          member.close();
        }
        member = null;
      }
      default -> throw new IllegalArgumentException("unknown op " + request.get("op"));
    }
  }

  private static <T> T get(Future<T> future) throws Exception {
    return future.get(20, TimeUnit.SECONDS);
  }

  private static String topic(JsonNode request) {
    return request.get("topic").asText();
  }

  private static TopicPartition partition(JsonNode request) {
    return new TopicPartition(topic(request), request.get("partition").asInt());
  }

  private static String textOr(JsonNode node, String name, String other) {
    return node.hasNonNull(name) ? node.get(name).asText() : other;
  }

  private static int intOr(JsonNode node, String name, int other) {
    return node.hasNonNull(name) ? node.get(name).asInt() : other;
  }

  private static Map<String, String> texts(JsonNode node) {
    Map<String, String> found = new HashMap<>();
    if (node != null) {
      node.properties().forEach(entry -> found.put(entry.getKey(), entry.getValue().asText()));
    }
    return found;
  }

  private Admin admin() {
    if (admin == null) {
      admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }
    return admin;
  }

  private void createTopic(JsonNode request) throws Exception {
    NewTopic wanted = new NewTopic(topic(request), intOr(request, "partitions", 1),
        (short) intOr(request, "replication_factor", 1));
    get(admin().createTopics(List.of(wanted.configs(texts(request.get("configs"))))).all());
  }

  private void listTopics(ObjectNode out) throws Exception {
    ObjectNode topics = out.putObject("topics");
    Set<String> names = get(admin().listTopics().names());
    get(admin().describeTopics(names).allTopicNames())
        .forEach((name, found) -> topics.put(name, found.partitions().size()));
  }

  private void describeConfigs(JsonNode request, ObjectNode out) throws Exception {
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic(request));
    ObjectNode configs = out.putObject("configs");
    for (ConfigEntry entry :
        get(admin().describeConfigs(List.of(resource)).all()).get(resource).entries()) {
      configs.put(entry.name(), entry.value());
    }
  }

  private void alterConfigs(JsonNode request) throws Exception {
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic(request));
    Collection<AlterConfigOp> changes = new ArrayList<>();
    texts(request.get("configs")).forEach((name, value) -> changes.add(
        new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
    get(admin().incrementalAlterConfigs(Map.of(resource, changes)).all());
  }

  private void produce(JsonNode request, ObjectNode out) throws Exception {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", textOr(request, "bootstrap", bootstrap));
    settings.put("compression.type", textOr(request, "codec", "none"));
    settings.put("acks", textOr(request, "acks", "all"));
    settings.put("enable.idempotence",
        request.hasNonNull("idempotent") && request.get("idempotent").asBoolean());
    settings.put("max.request.size", 4_000_000);
    settings.put("batch.size", intOr(request, "batch_bytes", 16384));
    settings.put("linger.ms", 5);
    settings.put("delivery.timeout.ms", 60_000);
    settings.put("request.timeout.ms", 20_000);
    settings.put("retry.backoff.ms", 20);
    settings.put("reconnect.backoff.ms", 10);
    settings.put("reconnect.backoff.max.ms", 100);
    long[] offsets = new long[request.get("records").size()];
    try (KafkaProducer<String, String> producer =
        new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
      List<Future<RecordMetadata>> pending = new ArrayList<>();
      for (JsonNode record : request.get("records")) {
        ProducerRecord<String, String> message = new ProducerRecord<>(topic(request),
            record.hasNonNull("partition") ? record.get("partition").asInt() : null,
            record.hasNonNull("timestamp") ? record.get("timestamp").asLong() : null,
            textOr(record, "key", null), textOr(record, "value", null));
        if (record.hasNonNull("headers")) {
          for (JsonNode header : record.get("headers")) {
            message.headers().add(header.get(0).asText(), header.get(1).isNull()
                ? null : header.get(1).asText().getBytes(StandardCharsets.UTF_8));
          }
        }
        pending.add(producer.send(message));
      }
      producer.flush();
      for (int index = 0; index < offsets.length; index++) {
        RecordMetadata told = pending.get(index).get(70, TimeUnit.SECONDS);
        offsets[index] = told.hasOffset() ? told.offset() : -1;
      }
    }
    ArrayNode told = out.putArray("offsets");
    for (long offset : offsets) {
      told.add(offset);
    }
  }

  private KafkaConsumer<String, String> consumer(Map<String, Object> more) {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", bootstrap);
    settings.put("enable.auto.commit", false);
    settings.put("fetch.max.wait.ms", 100);
    settings.put("max.partition.fetch.bytes", 4_000_000);
    settings.put("reconnect.backoff.ms", 20);
    settings.put("default.api.timeout.ms", 20_000);
    settings.putAll(more);
    return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
  }

  private void fetch(JsonNode request, ObjectNode out) {
    ArrayNode records = out.putArray("records");
    try (KafkaConsumer<String, String> consumer = consumer(Map.of(
        "isolation.level", textOr(request, "isolation", "read_committed"),
        "auto.offset.reset", "none", "allow.auto.create.topics", false))) {
      TopicPartition partition = partition(request);
      if (consumer.partitionsFor(partition.topic()).isEmpty()) {
        throw Errors.UNKNOWN_TOPIC_OR_PARTITION.exception();
      }
      consumer.assign(List.of(partition));
      JsonNode from = request.get("from");
      if (from.isNumber()) {
        consumer.seek(partition, from.asLong());
      } else if (from.asText().equals("earliest")) {
        consumer.seekToBeginning(List.of(partition));
      } else {
        consumer.seekToEnd(List.of(partition));
      }
      long deadline = System.nanoTime() + intOr(request, "timeout_ms", 10_000) * 1_000_000L;
      int wanted = request.get("count").asInt();
      while (records.size() < wanted && System.nanoTime() < deadline) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
          if (records.size() < wanted) {
            show(record, records.addObject());
          }
        }
      }
    }
  }

  private static void show(ConsumerRecord<String, String> record, ObjectNode out) {
    out.put("offset", record.offset()).put("timestamp", record.timestamp());
    out.put("key", record.key()).put("value", record.value());
    ArrayNode headers = out.putArray("headers");
    for (Header header : record.headers()) {
      headers.addArray().add(header.key()).add(header.value() == null
          ? null : new String(header.value(), StandardCharsets.UTF_8));
    }
  }

  private void offsetForTime(JsonNode request, ObjectNode out) {
    try (KafkaConsumer<String, String> consumer = consumer(Map.of())) {
      TopicPartition partition = partition(request);
      OffsetAndTimestamp found = consumer.offsetsForTimes(
          Map.of(partition, request.get("timestamp").asLong())).get(partition);
      out.put("offset", found == null ? -1 : found.offset());
    }
  }

  private void watermarks(JsonNode request, ObjectNode out) {
    try (KafkaConsumer<String, String> consumer = consumer(Map.of())) {
      TopicPartition partition = partition(request);
      out.put("low", consumer.beginningOffsets(List.of(partition)).get(partition));
      out.put("high", consumer.endOffsets(List.of(partition)).get(partition));
    }
  }

  private void commit(JsonNode request) {
    try (KafkaConsumer<String, String> consumer =
        consumer(Map.of("group.id", request.get("group").asText()))) {
      Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
      request.get("offsets").properties().forEach(entry -> wanted.put(
          new TopicPartition(topic(request), Integer.parseInt(entry.getKey())),
          new OffsetAndMetadata(entry.getValue().asLong())));
      consumer.commitSync(wanted);
    }
  }

  private void committed(JsonNode request, ObjectNode out) {
    try (KafkaConsumer<String, String> consumer =
        consumer(Map.of("group.id", request.get("group").asText()))) {
      Set<TopicPartition> wanted = new HashSet<>();
      request.get("partitions")
          .forEach(number -> wanted.add(new TopicPartition(topic(request), number.asInt())));
      ObjectNode offsets = out.putObject("offsets");
      consumer.committed(wanted).forEach((partition, found) -> offsets.put(
          String.valueOf(partition.partition()), found == null ? -1 : found.offset()));
    }
  }

  private void join(JsonNode request) {
    Map<String, Object> more = new HashMap<>();
    more.put("group.id", request.get("group").asText());
    more.put("auto.offset.reset", request.get("reset").asText());
    more.put("session.timeout.ms", request.get("session_timeout_ms").asInt());
    more.put("heartbeat.interval.ms", 500);
    more.put("metadata.max.age.ms", 1000);
    more.put("max.poll.records", 50);
    more.put("partition.assignment.strategy", ASSIGNORS.get(textOr(request, "strategy", "range")));
    if (request.hasNonNull("instance_id")) {
      more.put("group.instance.id", request.get("instance_id").asText());
    }
    if (request.hasNonNull("rack")) more.put("client.rack", request.get("rack").asText());
    commitEach = textOr(request, "commit", "manual").equals("each");
    held.clear();
    member = consumer(more);
    ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
      @Override
      public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        held.removeAll(partitions);
        showHeld();
      }

      @Override
      public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        held.addAll(partitions);
        showHeld();
      }
    };
    if (request.hasNonNull("pattern")) {
      member.subscribe(Pattern.compile(request.get("pattern").asText()), listener);
    } else {
      List<String> topics = new ArrayList<>();
      request.get("topics").forEach(name -> topics.add(name.asText()));
      member.subscribe(topics, listener);
    }
  }

  private void showHeld() {
    ObjectNode line = JSON.createObjectNode().put("event", "assigned");
    ArrayNode partitions = line.putArray("partitions");
    held.forEach(one -> partitions.addArray().add(one.topic()).add(one.partition()));
    emit(line);
  }

  private void pollMember() {
    try {
      ConsumerRecords<String, String> found = member.poll(Duration.ofMillis(100));
      for (ConsumerRecord<String, String> record : found) {
        emit(JSON.createObjectNode().put("event", "record").put("topic", record.topic())
            .put("partition", record.partition()).put("offset", record.offset())
            .put("value", record.value()));
      }
      if (!found.isEmpty() && commitEach) {
        member.commitSync();
      }
    } catch (Exception error) {
      ObjectNode line = describe(JSON.createObjectNode().put("event", "error"), error);
      if (error instanceof NoOffsetForPartitionException) {
        line.put("name", "NO_OFFSET");
      }
      emit(line);
      member = null;
    }
  }
}
