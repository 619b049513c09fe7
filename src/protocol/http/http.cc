#include "protocol/http/http.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/json.h"
#include "base/plant.h"

namespace pyralog::protocol::http {

namespace {

constexpr std::string_view kPaths[] = {"/live",    "/ready",  "/health",
                                       "/version", "/status", "/metrics"};
constexpr std::string_view kPartitions = "/partitions/";
constexpr std::string_view kStatus = "/status";
constexpr std::size_t kReadBytes = 4096;
constexpr Duration kSharedFor = 1s;
constexpr const char* kJson = "application/json";

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    default:
      return "Service Unavailable";
  }
}

std::string error_json(std::string_view message) {
  JsonWriter json;
  return json.object().field("error", message).end().take();
}

/// What stands between /partitions/ and /status; nullopt = it is another path.
std::optional<std::string_view> partition_of(std::string_view path) {
  if (!path.starts_with(kPartitions)) return std::nullopt;
  path.remove_prefix(kPartitions.size());
  if (!path.ends_with(kStatus)) return std::nullopt;
  path.remove_suffix(kStatus.size());
  return path;
}

bool is_path(std::string_view path) {
  return std::ranges::find(kPaths, path) != std::end(kPaths) || partition_of(path).has_value();
}

}  // namespace

HttpServer::HttpServer(HttpOptions options, HttpHooks hooks)
    : options_(options), hooks_(std::move(hooks)) {}

io::Task<void> HttpServer::serve(std::unique_ptr<io::Listener> listener) {
  listener_ = std::move(listener);
  while (!stopping_) {
    auto accepted = co_await listener_->accept();
    if (!accepted) {
      if (stopping_ || accepted.error().code == Code::kCancelled) break;
      // Out of descriptors, say: let connections end before trying again.
      co_await io::sleep_for(100ms);
      continue;
    }
    connections_.push_back({std::move(*accepted), true});
    tasks_.spawn(run(std::prev(connections_.end())));
  }
  co_await tasks_.join();
}

void HttpServer::stop() {
  stopping_ = true;
  if (listener_) listener_->close();
  for (Connection& connection : connections_) {
    if (connection.idle) connection.stream->close();
  }
}

io::Task<void> HttpServer::run(std::list<Connection>::iterator connection) {
  if (connections_.size() > options_.max_connections) {
    ++refused_;
    const Instant deadline = io::Shard::current().now() + options_.request_timeout;
    (void)co_await send(*connection, refusal(503, "too many connections"), true, false, deadline);
  } else {
    RequestReader reader({options_.max_header_bytes, options_.max_body_bytes});
    Bytes unread;
    while (co_await serve_one(*connection, reader, unread)) {
    }
  }
  connection->stream->close();
  connections_.erase(connection);
}

io::Task<Result<bool>> HttpServer::read_request(Connection& connection, RequestReader& reader,
                                                Bytes& unread, Instant& deadline) {
  std::array<std::uint8_t, kReadBytes> chunk{};
  deadline = io::Shard::current().now() + options_.idle_timeout;
  connection.idle = true;
  for (;;) {
    if (unread.empty()) {
      if (stopping_ && connection.idle) co_return false;
      const auto got = co_await connection.stream->read_some(chunk, deadline);
      if (!got) co_return fail(got.error());
      if (*got == 0) co_return false;
      unread.assign(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(*got));
    }
    if (connection.idle) {
      connection.idle = false;
      deadline = io::Shard::current().now() + options_.request_timeout;
    }
    PYRALOG_CO_ASSIGN(const std::size_t used, reader.put(unread));
    unread.erase(unread.begin(), unread.begin() + static_cast<std::ptrdiff_t>(used));
    if (reader.complete()) co_return true;
  }
}

io::Task<bool> HttpServer::serve_one(Connection& connection, RequestReader& reader, Bytes& unread) {
  Instant deadline;
  const auto read = co_await read_request(connection, reader, unread, deadline);
  if (!read) {
    int status = 400;
    switch (read.error().code) {
      case Code::kTooLarge:
        status = 413;
        break;
      case Code::kCorrupt:
        break;
      case Code::kTimedOut:
        if (connection.idle) co_return false;
        status = 408;
        deadline = io::Shard::current().now() + 1s;
        break;
      default:
        co_return false;
    }
    (void)co_await send(connection, refusal(status, read.error().message), true, false, deadline);
    co_return false;
  }
  if (!*read) co_return false;
  const Request request = reader.take();
  const bool keep_alive = request.keep_alive && !stopping_;
  const bool head = request.method == "HEAD";
  AnswerPtr reply;
  if (is_path(request.path) && request.method != "GET" && !head) {
    reply = refusal(405, request.method + ": only GET and HEAD are served");
  } else {
    reply = co_await answer(request.path, deadline);
  }
  if (reply == nullptr) {
    reply = refusal(503, request.path + ": was not ready in time; ask again later");
    deadline = io::Shard::current().now() + 1s;
  }
  const auto sent = co_await send(connection, std::move(reply), !head, keep_alive, deadline);
  co_return sent.has_value() && keep_alive;
}

HttpServer::AnswerPtr HttpServer::refusal(int status, std::string_view message) {
  return std::make_shared<const Answer>(status, kJson, error_json(message));
}

io::Task<HttpServer::AnswerPtr> HttpServer::answer_together(Shared& shared, const Hook& hook,
                                                            const char* content_type,
                                                            Instant deadline) {
  const bool alone = PYRALOG_PLANT("http.answer_each_alone");
  AnswerPtr last = shared.last.lock();
  if (last && io::Shard::current().now() - shared.last_made < kSharedFor && !alone) co_return last;
  last.reset();
  if (shared.making && !alone) {
    const std::shared_ptr<Shared::Making> making = shared.making;
    while (making->answer == nullptr) {
      if (!co_await making->made.wait(deadline)) co_return nullptr;
    }
    co_return making->answer;
  }
  const auto making = std::make_shared<Shared::Making>();
  shared.making = making;
  making->answer = std::make_shared<const Answer>(200, content_type, co_await hook());
  shared.making.reset();
  shared.last = making->answer;
  shared.last_made = io::Shard::current().now();
  making->made.wake_all();
  co_return making->answer;
}

io::Task<HttpServer::AnswerPtr> HttpServer::answer(std::string path, Instant deadline) {
  if (path == "/status") {
    co_return co_await answer_together(status_, hooks_.status_json, kJson, deadline);
  }
  if (path == "/metrics") {
    co_return co_await answer_together(metrics_, hooks_.metrics_text,
                                       "text/plain; version=0.0.4; charset=utf-8", deadline);
  }
  Answer reply;
  if (const auto partition = partition_of(path)) {
    auto told = co_await hooks_.partition_json(std::string(*partition));
    if (!told) {
      co_return refusal(404, path + ": there is no partition " + std::string(*partition) +
                                 "; it is called TOPIC-NUMBER, and /status lists all");
    }
    reply.body = std::move(*told);
  } else if (path == "/live") {
    reply.body = R"({"live":true})";
  } else if (path == "/ready") {
    const bool ready = hooks_.ready();
    reply.status = ready ? 200 : 503;
    reply.body = ready ? R"({"ready":true})" : R"({"ready":false})";
  } else if (path == "/health") {
    reply.body = co_await hooks_.health_json();
    const auto says = [&reply](std::string_view status) {
      return reply.body.find(R"("status":")" + std::string(status) + '"') != std::string::npos;
    };
    if (!says("ok") && !says("warning")) reply.status = 503;
  } else if (path == "/version") {
    reply.body = hooks_.version_json;
  } else {
    std::string known;
    for (const std::string_view each : kPaths) known += " " + std::string(each);
    known += " /partitions/NAME-N/status";
    co_return refusal(404, path + ": there is no such path; there are" + known);
  }
  co_return std::make_shared<const Answer>(std::move(reply));
}

io::Task<Result<void>> HttpServer::send(Connection& connection, AnswerPtr answer, bool with_body,
                                        bool keep_alive, Instant deadline) {
  std::string text = "HTTP/1.1 " + std::to_string(answer->status) + " " +
                     std::string(reason(answer->status)) +
                     "\r\nContent-Type: " + answer->content_type +
                     "\r\nContent-Length: " + std::to_string(answer->body.size()) +
                     "\r\nCache-Control: no-store\r\n";
  if (answer->status == 405) text += "Allow: GET, HEAD\r\n";
  text += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  std::vector<io::Piece> pieces;
  pieces.emplace_back(SharedBytes::copy(as_bytes(text)));
  if (with_body && !answer->body.empty()) {
    pieces.emplace_back(SharedBytes(answer, as_bytes(answer->body)));
  }
  co_return co_await connection.stream->write(std::move(pieces), deadline);
}

}  // namespace pyralog::protocol::http
