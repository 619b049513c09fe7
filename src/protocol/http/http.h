#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "io/net.h"
#include "io/shard.h"
#include "io/task.h"
#include "protocol/http/request.h"

namespace pyralog::protocol::http {

struct HttpOptions {
  std::size_t max_connections = 256;
  std::uint32_t max_header_bytes = 16u << 10;
  std::uint64_t max_body_bytes = 64u << 10;
  Duration request_timeout = 10s;  ///< from a request's first byte to its answer's last
  Duration idle_timeout = 60s;     ///< between requests
};

/// What the node behind the listener tells. Called on the listener's shard; a Task may visit
/// others.
struct HttpHooks {
  std::function<bool()> ready;  ///< clients are accepted
  std::function<io::Task<std::string>()>
      health_json;  ///< an object; with a "status" of "ok" or "warning" the answer is 200, else 503
  std::function<io::Task<std::string>()> status_json;
  /// Of the partition that is called so ("orders-3"); nullopt = there is none.
  std::function<io::Task<std::optional<std::string>>(std::string name)> partition_json;
  std::function<io::Task<std::string>()> metrics_text;  ///< Prometheus text format 0.0.4
  std::string version_json;
};

/// GET and HEAD of /live /ready /health /version /status /metrics and /partitions/NAME-N/status over
/// HTTP/1.1 with keep-alive.
/// /status and /metrics may be large: who asks while one is made waits for that one, who asks while
/// others are still being sent one that is not older than a second gets the same, and the last one
/// to have sent it lets it go. Lives on one shard. Anything else is 404 or 405, malformed requests
/// 400, 413 or 431, all with a JSON object {"error": …}; a connection over the limit is told 503
/// and closed.
class HttpServer {
 public:
  HttpServer(HttpOptions options, HttpHooks hooks);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Accepts connections until stop(); returns when every connection has ended.
  [[nodiscard]] io::Task<void> serve(std::unique_ptr<io::Listener> listener);
  /// Takes no more connections and requests; those being answered are finished, idle ones closed.
  void stop();
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  /// Connections over the limit, so far.
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  struct Connection {
    std::unique_ptr<io::Stream> stream;
    bool idle = true;
  };
  struct Answer {
    int status = 200;
    const char* content_type = "application/json";
    std::string body;
  };
  using AnswerPtr = std::shared_ptr<const Answer>;
  /// What several connections answer together.
  struct Shared {
    struct Making {
      AnswerPtr answer;  ///< once it is there
      io::WaitList made;
    };
    std::shared_ptr<Making> making;  ///< null if none is being made
    std::weak_ptr<const Answer> last;
    Instant last_made;
  };
  using Hook = std::function<io::Task<std::string>()>;

  io::Task<void> run(std::list<Connection>::iterator connection);
  /// False when the connection is to end.
  io::Task<bool> serve_one(Connection& connection, RequestReader& reader, Bytes& unread);
  io::Task<Result<bool>> read_request(Connection& connection, RequestReader& reader, Bytes& unread,
                                      Instant& deadline);
  [[nodiscard]] static AnswerPtr refusal(int status, std::string_view message);
  io::Task<AnswerPtr> answer(std::string path, Instant deadline);
  /// The answer of `hook`, which belongs to this server, as `shared` has it; null if that one was
  /// not made by `deadline`.
  io::Task<AnswerPtr> answer_together(Shared& shared, const Hook& hook, const char* content_type,
                                      Instant deadline);
  io::Task<Result<void>> send(Connection& connection, AnswerPtr answer, bool with_body,
                              bool keep_alive, Instant deadline);

  HttpOptions options_;
  HttpHooks hooks_;
  Shared status_;
  Shared metrics_;
  std::unique_ptr<io::Listener> listener_;
  std::list<Connection> connections_;
  io::TaskGroup tasks_;
  std::uint64_t refused_ = 0;
  bool stopping_ = false;
};

}  // namespace pyralog::protocol::http
