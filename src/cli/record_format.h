#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "client/cluster.h"
#include "model/record_batch.h"

namespace pyralog::cli {

/// How `consume` prints a record: a text with tokens, parsed once. %t topic, %p partition, %o
/// offset, %T timestamp, %k key, %s value, %h headers (name=value, comma-separated), %K and %S
/// lengths of key and value (−1 = none), %% percent, \n, \t, \r, \0, \\ and \xHH.
class RecordFormat {
 public:
  /// kInvalidArgument names the token that there is none of.
  [[nodiscard]] static Result<RecordFormat> parse(std::string_view text);
  void append(std::string& out, const client::TopicPartition& partition,
              const RecordView& record) const;

 private:
  struct Part {
    char token = 0;  ///< 0 = `text` as it is
    std::string text;
  };
  std::vector<Part> parts_;
};

/// One line of JSON: topic, partition, offset, timestamp, key, value, headers. A key or value that
/// is no UTF-8 comes as "key_base64" or "value_base64".
void append_record_json(std::string& out, const client::TopicPartition& partition,
                        const RecordView& record);

}  // namespace pyralog::cli
