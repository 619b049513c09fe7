// The C++ side of wire_kafka_java_interop: compare FIELDS DUMP. FIELDS holds our field tables, DUMP
// what WireDump.java printed; both must agree, and the Java client's bytes must come back
// unchanged.
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "wire/kafka/testing.h"

namespace pyralog::wire::kafka::testing {
namespace {

using Key = std::pair<std::string, int>;

/// What the Java client no longer or not at all has.
bool may_be_absent(const Key& key) {
  static const std::set<std::string> kBrokerOnly = {"OffsetCommitKey", "OffsetCommitValue",
                                                    "GroupMetadataKey", "GroupMetadataValue"};
  if (kBrokerOnly.contains(key.first)) return true;
  if (key.first.starts_with("Produce")) return key.second < 3;
  return key.first.starts_with("Fetch") && key.second < 4;
}

Bytes from_hex(const std::string& text) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
  }
  return out;
}

const AnyMessage* find(const std::string& name) {
  for (const AnyMessage& message : all_messages()) {
    if (name == message.info.name) return &message;
  }
  return nullptr;
}

class Comparison {
 public:
  void load(std::istream& fields) {
    for (std::string line; std::getline(fields, line);) {
      std::istringstream words(line);
      Key key;
      words >> key.first >> key.second >> std::ws;
      std::getline(words, ours_[key]);
    }
  }

  void line(const std::string& text) {
    std::istringstream words(text);
    std::string kind;
    Key key;
    std::string rest;
    words >> kind >> key.first >> key.second >> std::ws;
    std::getline(words, rest);
    if (kind == "absent") {
      if (!may_be_absent(key)) complain(key, "the Java client does not have it");
      seen_.insert(key);
    } else if (kind == "table") {
      if (ours_[key] != rest) complain(key, "ours " + ours_[key] + "\n  Java " + rest);
      seen_.insert(key);
    } else {
      bytes(key, rest);
    }
  }

  int verdict() {
    for (const auto& [key, table] : ours_) {
      if (!seen_.contains(key)) complain(key, "not in the dump");
    }
    std::cout << ours_.size() << " tables and " << messages_ << " messages compared, " << wrong_
              << " wrong\n";
    return wrong_ == 0 && messages_ > 1000 ? 0 : 1;
  }

 private:
  void bytes(const Key& key, const std::string& text) {
    const AnyMessage* message = find(key.first);
    if (message == nullptr) return complain(key, "no such message here");
    ++messages_;
    const Bytes theirs = from_hex(text);
    const auto mine = message->recode(theirs, static_cast<std::int16_t>(key.second), {});
    if (!mine) return complain(key, mine.error().message + "\n  Java " + text);
    if (*mine != theirs) complain(key, "other bytes for " + text);
  }

  void complain(const Key& key, const std::string& what) {
    ++wrong_;
    if (wrong_ <= 20) std::cout << key.first << " v" << key.second << ": " << what << "\n";
  }

  std::map<Key, std::string> ours_;
  std::set<Key> seen_;
  std::size_t messages_ = 0;
  std::size_t wrong_ = 0;
};

}  // namespace
}  // namespace pyralog::wire::kafka::testing

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  pyralog::wire::kafka::testing::Comparison comparison;
  std::ifstream fields(argv[1]);
  comparison.load(fields);
  std::ifstream dump(argv[2]);
  for (std::string line; std::getline(dump, line);) comparison.line(line);
  return comparison.verdict();
}
