#include "cli/handlers.h"
#include "server/settings.h"

namespace pyralog::cli {

namespace {

using enum OptionKind;

OptionSpec value(std::string name, std::string stands_for, std::string help,
                 std::string default_text = {}) {
  OptionSpec spec;
  spec.name = std::move(name);
  spec.value = std::move(stands_for);
  spec.help = std::move(help);
  spec.default_text = std::move(default_text);
  return spec;
}
OptionSpec list(std::string name, std::string stands_for, std::string help) {
  OptionSpec spec = value(std::move(name), std::move(stands_for), std::move(help));
  spec.kind = kList;
  return spec;
}
OptionSpec flag(std::string name, std::string help) {
  OptionSpec spec = value(std::move(name), "", std::move(help));
  spec.kind = kFlag;
  return spec;
}
OptionSpec choice(std::string name, std::string choices, std::string help,
                  std::string default_text) {
  OptionSpec spec = value(std::move(name), "", std::move(help), std::move(default_text));
  spec.choices = std::move(choices);
  return spec;
}
OptionSpec file(std::string name, std::string help, bool required = false) {
  OptionSpec spec = value(std::move(name), "FILE", std::move(help));
  spec.completes = Completes::kFiles;
  spec.required = required;
  return spec;
}

PositionalSpec argument(std::string name, std::string help) {
  PositionalSpec spec;
  spec.name = std::move(name);
  spec.help = std::move(help);
  return spec;
}

/// The options of every command that talks to a server, after its own.
std::vector<OptionSpec> client(std::vector<OptionSpec> own) {
  own.push_back(value("bootstrap", "HOST:PORT,…", "Servers to begin with.",
                      "PYRALOG_BOOTSTRAP, or 127.0.0.1:9092"));
  own.push_back(value("timeout", "DURATION", "How long to keep trying.", "30s"));
  return own;
}

/// One option per row of the settings table.
std::vector<OptionSpec> setting_options() {
  std::vector<OptionSpec> specs = {file("config", "TOML file of settings.")};
  const server::ServerOptions defaults;
  for (const server::Setting& setting : server::settings()) {
    OptionSpec spec = value(server::flag_of(setting).substr(2), "", std::string(setting.help),
                            server::value_of(defaults, setting));
    spec.group = std::string(setting.group);
    switch (setting.kind) {
      case server::SettingKind::kBool:
        spec.kind = kFlag;
        break;
      case server::SettingKind::kAddress:
        spec.value = "HOST:PORT";
        break;
      case server::SettingKind::kMembers:
        spec.value = "ID@HOST:PORT,…";
        break;
      case server::SettingKind::kChoice:
        spec.choices = std::string(setting.choices);
        break;
      case server::SettingKind::kText:
        spec.value = "TEXT";
        break;
      case server::SettingKind::kInteger:
      case server::SettingKind::kBytes:
      case server::SettingKind::kMillis:
        spec.value = "N";
        break;
    }
    if (setting.key == "data_dir") {
      spec.value = "DIR";
      spec.completes = Completes::kDirectories;
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

void add_server(std::vector<CommandSpec>& out) {
  out.push_back(
      {"serve",
       "Start a broker.",
       "Prints one line when all listeners accept clients: `ready kafka=HOST:PORT http=HOST:PORT`. "
       "Log lines go to standard error. SIGTERM or Ctrl-C ends it in order, a second one at once. "
       "Every setting can also stand in the TOML file or in the environment; the command line "
       "wins. With --cluster several nodes are one cluster: a first start waits until most of them "
       "have begun, and the ready line comes once the node is one of them.",
       {},
       setting_options(),
       {"pyralog serve", "pyralog serve --data-dir /var/lib/pyralog --kafka 127.0.0.1:0",
        "pyralog serve --node-id 1 --cluster 1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093 "
        "--cluster-secret-file secret --kafka 10.0.0.1:9092 --allow-insecure"},
       serve});
}

void add_clusters(std::vector<CommandSpec>& out) {
  out.push_back(
      {"cluster status",
       "Show a cluster's nodes and who of them leads.",
       "As one of them sees it: which node leads the metadata log, and which it can reach.",
       {},
       {value("http", "HOST:PORT", "Where a node serves HTTP.", "127.0.0.1:9094")},
       {"pyralog cluster status", "pyralog cluster status --http 127.0.0.1:9094 --json"},
       cluster_status});
  out.push_back({"cluster rebalance",
                 "Let every partition be led by its preferred replica.",
                 "That is the first of its replicas. Nodes that were down have lost their leaders to others; "
                 "a cluster gives them back by itself some minutes later, this does it now. Says what became "
                 "of each partition that another has led, and fails if one is still led by another.",
                 {},
                 client({}),
                 {"pyralog cluster rebalance"},
                 cluster_rebalance});
  out.push_back({"cluster drain",
                 "Let a node give all that it leads and holds to others.",
                 "So that it can be stopped for good, or taken out. It goes on in the background, some partitions at "
                 "a time, while all are written and read; nothing new is placed on it. Says how many partitions are "
                 "left, and which have nowhere to go: each needs another node that holds none of its replicas.",
                 {argument("NODE", "The node's id.")},
                 client({flag("wait", "Until it leads and holds nothing; for a day if no --timeout is given. Fails if "
                                      "what is left has nowhere to go."),
                         flag("cancel", "It is to drain no longer. What has left it does not come back by itself."),
                         flag("status", "Change nothing, only say how far it is, or what would have to leave.")}),
                 {"pyralog cluster drain 3 --wait", "pyralog cluster drain 3 --status --json",
                  "pyralog cluster drain 3 --cancel"},
                 cluster_drain});
  out.push_back({"cluster add",
                 "Let a node come to a cluster.",
                 "Says with which command it is started, on an empty directory; then it learns all that the others "
                 "know and is a node like any other. A node that runs alone becomes a cluster of one by a restart with "
                 "--peer HOST:PORT and --cluster-secret-file FILE.",
                 {argument("NODE@HOST:PORT", "The new node's id, and where other nodes will reach it.")},
                 client({}),
                 {"pyralog cluster add 4@10.0.0.4:9093"},
                 cluster_add});
  out.push_back({"cluster remove",
                 "Take a node out of a cluster.",
                 "For good: its data directory never comes back. Its partitions have to be elsewhere, see pyralog "
                 "cluster drain; it may run or be gone. A node that was added and has not come may not come any more.",
                 {argument("NODE", "The node's id.")},
                 client({}),
                 {"pyralog cluster remove 3"},
                 cluster_remove});
  out.push_back({"cluster replace-disk",
                 "Let a node whose disk is lost come back with an empty one.",
                 "The old directory never comes back. The node must be stopped; then start it as before, on an empty "
                 "directory. It is given all that it held by the others.",
                 {argument("NODE", "The node's id.")},
                 client({}),
                 {"pyralog cluster replace-disk 3"},
                 cluster_replace_disk});
  PositionalSpec nodes = argument("N", "How many nodes: 1, 3 or 5; left out, 3.");
  nodes.required = false;
  OptionSpec dir =
      value("data-dir", "DIR", "Directory of all nodes; made if it is not there.", "./dev-cluster");
  dir.completes = Completes::kDirectories;
  out.push_back(
      {"dev cluster",
       "Start a cluster on this machine, to develop with.",
       "Each node is a `pyralog serve` with one shard; once it is ready one line says so: `ready "
       "kafka=HOST:PORT http=HOST:PORT pid=N`. The directory keeps a secret, and for each node its "
       "settings (node-1.toml, which may be edited), its data and its log lines; started again on "
       "it, the cluster goes on where it was, on the same ports. A node that ends is told of on "
       "standard error and not started again; the others go on. SIGTERM or Ctrl-C ends them all, "
       "and the command fails if one had to be killed or had ended by itself.",
       {nodes},
       {dir,
        value("base-port", "N",
              "The first node's kafka, http and peer ports are this and the next two, and so on.",
              "free ones")},
       {"pyralog dev cluster 3", "pyralog dev cluster 3 --data-dir /tmp/three --base-port 19000"},
       dev_cluster});
}

void add_topics(std::vector<CommandSpec>& out) {
  out.push_back({"topic create",
                 "Create a topic.",
                 "",
                 {argument("NAME", "The topic's name.")},
                 client({value("partitions", "N", "Number of partitions.", "the server's default"),
                         value("replication-factor", "N", "Replicas of each partition.",
                               "the server's default"),
                         list("config", "K=V", "A setting of the topic."),
                         flag("if-not-exists", "Do not mind if the topic is there already.")}),
                 {"pyralog topic create orders --partitions 3 --config retention.ms=86400000"},
                 topic_create});
  out.push_back({"topic list",
                 "List topics.",
                 "",
                 {},
                 client({flag("internal", "Also those that the server keeps for itself.")}),
                 {"pyralog topic list", "pyralog topic list --internal --json"},
                 topic_list});
  out.push_back({"topic describe",
                 "Show a topic's partitions and settings.",
                 "",
                 {argument("NAME", "The topic's name.")},
                 client({flag("all", "All settings, not only those that were set.")}),
                 {"pyralog topic describe orders", "pyralog topic describe orders --all"},
                 topic_describe});
  out.push_back({"topic alter",
                 "Change a topic's settings or add partitions.",
                 "",
                 {argument("NAME", "The topic's name.")},
                 client({value("partitions", "N", "The new number of partitions, above the old."),
                         list("config", "K=V", "A setting and its new value."),
                         list("delete-config", "K", "A setting to put back to its default.")}),
                 {"pyralog topic alter orders --config retention.ms=3600000"},
                 topic_alter});
  PositionalSpec names = argument("NAME", "The topics' names.");
  names.many = true;
  OptionSpec before = value("records-before", "WHERE",
                            "Keep the topic, delete its records before this place: end, an offset, "
                            "@MS for a time in milliseconds, or a time such as "
                            "2026-01-31T12:00:00Z.");
  before.offers = "end";
  out.push_back(
      {"topic delete",
       "Delete topics with all their records, or a topic's older records.",
       "With --records-before the topic stays and its partitions begin later; what is deleted does "
       "not come back. An offset must lie within every partition meant.",
       {names},
       client({before, value("partition", "N", "Delete records of this partition only.", "all")}),
       {"pyralog topic delete orders",
        "pyralog topic delete orders --records-before 2026-01-31T12:00:00Z"},
       topic_delete});
}

void add_partitions(std::vector<CommandSpec>& out) {
  PositionalSpec only = argument("TOPIC", "Only this topic's.");
  only.required = false;
  out.push_back({"partition list",
                 "List partitions: who leads them, who holds them, who keeps up.",
                 "A node that is offline cannot be reached from the one that answers. A partition that is not led "
                 "by its preferred replica, the first of its replicas, says whom it prefers.",
                 {only},
                 client({flag("internal", "Also of topics that the server keeps for itself."),
                         flag("moving", "Only those whose replicas are being moved, and from where to where.")}),
                 {"pyralog partition list", "pyralog partition list orders --json", "pyralog partition list --moving"},
                 partition_list});
  out.push_back({"partition move",
                 "Move a partition's replicas to other nodes, or its leader to the preferred replica.",
                 "With --to the partition comes to be held by these nodes; the first is the one to lead it. Their "
                 "number may be another than before. Records are copied in the background, step by step, while the "
                 "partition is written and read, and never with fewer copies than promised. --cancel goes back to "
                 "where it was. With --preferred only the leader moves, to the first of the replicas, which must be "
                 "in sync. Nothing that was promised is lost; clients find the new leader by themselves.",
                 {argument("TOPIC", "The topic's name."), argument("PARTITION", "The partition's number.")},
                 client({value("to", "N,N,N", "Ids of the nodes that are to hold it, the preferred leader first."),
                         flag("cancel", "Stop a move that is under way, and go back."),
                         flag("wait", "Until that is done; for a day if no --timeout is given."),
                         flag("preferred", "Only the leader: to the first of its replicas.")}),
                 {"pyralog partition move orders 0 --to 2,3,1 --wait", "pyralog partition move orders 0 --cancel",
                  "pyralog partition move orders 0 --preferred"},
                 partition_move});
}

void add_data(std::vector<CommandSpec>& out) {
  out.push_back(
      {"produce",
       "Append each line of standard input, or of a file, as a record.",
       "Records are acknowledged by all replicas unless --acks says otherwise, and are written "
       "once "
       "even if a response is lost. A line's end is not part of the record.",
       {argument("TOPIC", "Where to append.")},
       client(
           {file("file", "Read this file instead of standard input."),
            value("key-separator", "TEXT", "What stands between key and value in a line."),
            value("partition", "N", "Append to this partition only.", "chosen by key"),
            list("header", "K=V", "A header for every record."),
            choice("codec", "none|gzip|snappy|lz4|zstd", "How batches are compressed.", "none"),
            choice("acks", "all|1|0", "Who must have written a record.", "all"),
            value("null-value", "TEXT", "A value that is written as a tombstone."),
            value("batch-bytes", "N", "Size at which a batch is sent.", "262144"),
            value("linger", "DURATION", "How long a batch waits for more records.", "5ms"),
            flag("progress", "Say rate and count on standard error, also if it is no terminal.")}),
       {"printf 'a:1\\nb:2\\n' | pyralog produce orders --key-separator :"},
       produce});
  out.push_back(
      {"consume",
       "Print records as they come.",
       "--format replaces %t topic, %p partition, %o offset, %T timestamp (ms), %k key, %s value, "
       "%h headers, %S value's length (-1 for a tombstone), %K key's length, %% percent, \\n line, "
       "\\t tab. With --group the partitions are shared with the group's other members and offsets "
       "are committed; --from then counts only where the group has no offset.",
       {argument("TOPIC", "What to read.")},
       client({value("from", "WHERE",
                     "beginning, end, an offset (or the nearest there is), @MS for a time in "
                     "milliseconds, "
                     "or a time such as 2026-01-31T12:00:00Z.",
                     "end; with --group, beginning"),
               value("group", "NAME", "Read as a member of this group."),
               value("partition", "N", "Read this partition only."),
               value("rack", "RACK",
                     "Read from replicas in this rack, where there are any in sync, in place of the "
                     "leaders."),
               value("count", "N", "Stop after so many records."),
               flag("until-end", "Stop at the end that each partition has now."),
               value("format", "TEXT", "How a record is printed.", "%s\\n"),
               choice("isolation", "committed|uncommitted", "Whether open transactions are hidden.",
                      "committed")}),
       {"pyralog consume orders --from beginning --until-end --format '%o %k=%s\\n'"},
       consume});
}

/// Options of the benchmarks that send, then those of all.
std::vector<OptionSpec> load(std::vector<OptionSpec> own) {
  own.push_back(value("size", "BYTES", "Size of a record's value.", "100"));
  own.push_back(choice("acks", "all|1|0", "Who must have written a record.", "all"));
  own.push_back(choice("codec", "none|gzip|snappy|lz4|zstd", "How batches are compressed.", "none"));
  own.push_back(value("batch-bytes", "N", "Size at which a batch is sent.", "262144"));
  own.push_back(value("linger", "DURATION", "How long a batch waits for more records.", "0ms"));
  own.push_back(value("buffer-bytes", "N",
                      "What may be unsent or unanswered; then sending waits.", "8388608"));
  return own;
}
std::vector<OptionSpec> measured(std::vector<OptionSpec> own, std::string how_long) {
  own.push_back(value("records", "N", "Stop after so many records."));
  own.push_back(value("for", "DURATION", "Stop after so long.", std::move(how_long)));
  own.push_back(flag("progress", "Say every second how far it is, also if it is no terminal."));
  return client(std::move(own));
}

void add_bench(std::vector<CommandSpec>& out) {
  out.push_back(
      {"bench produce",
       "Measure how fast records are acknowledged.",
       "Sends made-up records, as fast as it goes or, with --rate, on a schedule that does not wait "
       "for "
       "the server. Latency counts from when a record was sent, or was due, to its acknowledgement; "
       "without --rate most of it is waiting in the client's own buffer. The topic is made if it is "
       "not there, and keeps the records.",
       {argument("TOPIC", "Where to append.")},
       measured(load({value("rate", "N", "Records a second.", "as fast as it goes")}),
                "10s; with --records, none"),
       {"pyralog bench produce speed --size 1024 --records 1000000",
        "pyralog bench produce speed --rate 50000 --for 30s --json"},
       bench_produce});
  out.push_back({"bench consume",
                 "Measure how fast a topic is read.",
                 "Reads all partitions from their beginning to the end that they have now, or for as "
                 "long as "
                 "is said. Batches are checked, and not taken apart.",
                 {argument("TOPIC", "What to read.")},
                 measured({choice("from", "beginning|end", "Where to begin.", "beginning")},
                          "what there is; with --from end, 10s"),
                 {"pyralog bench consume speed"},
                 bench_consume});
  out.push_back({"bench latency",
                 "Measure how long records take from sender to reader.",
                 "Sends records on a schedule and reads them back as they arrive. Both latencies count "
                 "from when a "
                 "record was due: to its acknowledgement, and to its arrival at a consumer. With "
                 "--in-flight a record is due when another is acknowledged, as for a client that waits: "
                 "then a server that stalls is asked less, and the figures tell less of it.",
                 {argument("TOPIC", "Where to append and read.")},
                 measured(load({value("rate", "N", "Records a second.", "1000"),
                                value("in-flight", "N",
                                      "Instead of a rate: so many records wait for their acknowledgement, "
                                      "and the next is sent when one has it.",
                                      "a rate")}),
                          "10s; with --records, none"),
                 {"pyralog bench latency speed --rate 10000 --for 30s",
                  "pyralog bench latency speed --in-flight 1 --for 5s"},
                 bench_latency});
}

void add_groups(std::vector<CommandSpec>& out) {
  out.push_back({"group list", "List consumer groups.", "", {}, client({}),
                 {"pyralog group list"}, group_list});
  out.push_back({"group describe",
                 "Show a group's members, offsets and lag.",
                 "",
                 {argument("GROUP", "The group's name.")},
                 client({}),
                 {"pyralog group describe billing", "pyralog group describe billing --json"},
                 group_describe});
  OptionSpec topics = list("topic", "TOPIC[:P,…]", "A topic, or partitions of it.");
  OptionSpec to = value("to", "WHERE",
                        "earliest, latest, offset N, timestamp MS, timestamp 2026-01-31T12:00:00Z, "
                        "or shift N records on (-N: back).");
  to.required = true;
  to.two_words = "offset|timestamp|shift";
  to.offers = "earliest|latest|offset|timestamp|shift";
  out.push_back(
      {"group reset",
       "Move a group's committed offsets.",
       "The group must have no members. Shows the plan; --execute carries it out. What lies "
       "outside "
       "of a partition's log goes to the nearest that there is. A time that no record is as young "
       "as "
       "means the end. A group that does not exist yet is made.",
       {argument("GROUP", "The group's name.")},
       client({topics,
               flag("all-topics", "All partitions that the group has committed offsets of."), to,
               flag("dry-run", "Only show the plan, which is the default."),
               flag("execute", "Carry the plan out.")}),
       {"pyralog group reset billing --topic orders --to earliest",
        "pyralog group reset billing --topic orders:0,2 --to offset 42 --execute",
        "pyralog group reset billing --all-topics --to shift -100 --execute"},
       group_reset});
  PositionalSpec names = argument("GROUP", "The groups' names.");
  names.many = true;
  out.push_back({"group delete",
                 "Delete groups and their committed offsets.",
                 "A group that still has members is refused.",
                 {names},
                 client({}),
                 {"pyralog group delete billing"},
                 group_delete});
  topics.required = true;
  out.push_back({"group delete-offsets",
                 "Delete a group's committed offsets of topics.",
                 "A topic that members of the group read is refused.",
                 {argument("GROUP", "The group's name.")},
                 client({topics}),
                 {"pyralog group delete-offsets billing --topic orders"},
                 group_delete_offsets});
}

void add_log(std::vector<CommandSpec>& out) {
  PositionalSpec dir =
      argument("DIR", "A partition's directory, or a data directory for all of them.");
  dir.completes = Completes::kDirectories;
  const std::string closed = "No server may have the data directory open.";
  out.push_back({"log inspect",
                 "Show what a partition's files hold.",
                 closed,
                 {dir},
                 {flag("batches", "List every batch.")},
                 {"pyralog log inspect ./data", "pyralog log inspect ./data/TOPICID-0 --batches --json"},
                 log_inspect});
  out.push_back({"log verify",
                 "Check every byte of a partition's files.",
                 closed + " Fails if it finds a fault.",
                 {dir},
                 {},
                 {"pyralog log verify ./data"},
                 log_verify});
  out.push_back({"log repair",
                 "Cut a partition's log before its first fault.",
                 closed + " What is cut is kept beside it. Indexes are rebuilt.",
                 {dir},
                 {flag("dry-run", "Say what would be cut, and change nothing."),
                  flag("below-synced", "Also cut records that were acknowledged.")},
                 {"pyralog log repair ./data --dry-run", "pyralog log repair ./data/TOPICID-0"},
                 log_repair});
}

void add_ids(std::vector<CommandSpec>& out) {
  const std::vector<OptionSpec> own = {
      file("file", "The generator's file; made if it is not there.", true),
      value("machine", "N", "Machine of a new generator, 0 to 1023.", "0"),
      flag("counter", "A plain counter instead of Scarab ids."),
      choice("mode", "strict|lease|relaxed", "How a new counter is kept.", "lease")};
  out.push_back({"id next",
                 "Issue one id that no crash repeats.",
                 "",
                 {},
                 own,
                 {"pyralog id next --file ids"},
                 id_next});
  std::vector<OptionSpec> batch = own;
  batch.push_back(value("count", "N", "How many.", "1"));
  out.push_back({"id batch",
                 "Issue many ids.",
                 "",
                 {},
                 batch,
                 {"pyralog id batch --file ids --count 1000"},
                 id_batch});
  PositionalSpec id = argument("ID", "A Scarab id to take apart.");
  id.required = false;
  out.push_back({"id inspect",
                 "Show what a generator's file or an id says.",
                 "",
                 {id},
                 {file("file", "The generator's file.")},
                 {"pyralog id inspect --file ids", "pyralog id inspect 503634498957606913"},
                 id_inspect});
}

void add_issued(std::vector<CommandSpec>& out) {
  const std::vector<OptionSpec> asked = {
      value("server", "HOST:PORT,…", "Servers to begin with; others are asked when one does not answer.",
            "PYRALOG_BOOTSTRAP, or 127.0.0.1:9092"),
      value("timeout", "DURATION", "How long to keep trying.", "30s"),
      value("count", "N", "How many.", "1")};
  std::vector<OptionSpec> ids = asked;
  ids.push_back(value("at-once", "N", "How many are asked for at a time, 1 to 81920.", "1000"));
  out.push_back({"ids next",
                 "Take ids that nobody else gets from a server.",
                 "Scarab ids: unique in the cluster, and ascending as long as one node gives them. With "
                 "--timeout each request has that time.",
                 {},
                 ids,
                 {"pyralog ids next --server 127.0.0.1:9092", "pyralog ids next --count 5 --json"},
                 ids_next});
  std::vector<OptionSpec> counter = asked;
  counter.push_back(flag("strict", "The cluster agrees on each call: values in order, without gaps."));
  out.push_back({"counter next",
                 "Take the next values of a named counter from a server.",
                 "The counter is made by its first use and starts at 1. Values are unique; without "
                 "--strict each node gives them out of blocks of its own.",
                 {argument("NAME", "The counter, of a-z 0-9 . _ and -.")},
                 counter,
                 {"pyralog counter next orders", "pyralog counter next invoices --strict"},
                 counter_next});
}

void add_config(std::vector<CommandSpec>& out) {
  out.push_back({"config check",
                 "Check settings as `serve` would read them, without starting.",
                 "",
                 {},
                 setting_options(),
                 {"pyralog config check --config pyralog.toml"},
                 config_check});
  out.push_back({"config reference",
                 "List all settings.",
                 "",
                 {},
                 {flag("markdown", "As the page docs/configuration.md.")},
                 {"pyralog config reference"},
                 config_reference});
}

void add_rest(std::vector<CommandSpec>& out) {
  out.push_back(
      {"doctor",
       "Say whether this machine suits a server, and what to do if not.",
       "Takes the settings that `serve` would be started with. Times up to 100 appends of 4 "
       "KiB, each with its fdatasync, for 3 seconds at most, in a file without a name; "
       "looks at space, file system, limits, memory, paging, clock, processor and ports. "
       "A server that runs already, with this data directory and on this --http, is asked how it is. "
       "Each is ok, a warning or a problem; a problem makes the command fail. Nothing that "
       "is written stays behind.",
       {},
       setting_options(),
       {"pyralog doctor --data-dir /var/lib/pyralog"},
       doctor});
  out.push_back({"version",
                 "Say version, build and licence.",
                 "",
                 {},
                 {flag("licences",
                       "Also the licences, with their texts, of all that the binary contains or "
                       "links.")},
                 {"pyralog version", "pyralog version --licences"},
                 version});
  PositionalSpec shell = argument("SHELL", "bash, zsh or fish.");
  shell.choices = "bash|zsh|fish";
  out.push_back({"completion",
                 "Print a shell's completion script.",
                 "",
                 {shell},
                 {},
                 {"source <(pyralog completion bash)"},
                 completion});
  out.push_back({"man", "Print the manual page.", "", {}, {}, {"pyralog man | man -l -"}, man});
}

}  // namespace

const std::vector<CommandSpec>& commands() {
  static const std::vector<CommandSpec> kTable = [] {
    std::vector<CommandSpec> out;
    add_server(out);
    add_clusters(out);
    add_topics(out);
    add_partitions(out);
    add_data(out);
    add_groups(out);
    add_bench(out);
    add_log(out);
    add_ids(out);
    add_issued(out);
    add_config(out);
    add_rest(out);
    return out;
  }();
  return kTable;
}

}  // namespace pyralog::cli
