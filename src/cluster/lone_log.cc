#include "cluster/lone_log.h"

#include <algorithm>

#include "base/plant.h"
#include "cluster/entries.h"

namespace pyralog::cluster {

namespace {
constexpr std::uint32_t kJournalKind = 0x4154454d;  // "META"
// First byte of a frame.
constexpr std::uint8_t kSnapshotFrame = 1;
constexpr std::uint8_t kEntriesFrame = 2;
constexpr const char* kFile = "/metadata.log";

Bytes framed(std::uint8_t kind, ByteView body) {
  Writer out;
  out.le(kind).raw(body);
  return out.take();
}

journal::Options journal_options() {
  journal::Options options;
  options.kind = kJournalKind;
  options.max_frame_bytes = 256u << 20;  // a snapshot of many topics is one frame
  return options;
}

Result<void> replay(catalog::Catalog& state, ByteView frame, std::uint16_t understood) {
  if (frame.empty()) return fail(Code::kCorrupt, "metadata log: an empty frame");
  const ByteView body = frame.subspan(1);
  if (frame[0] == kSnapshotFrame) {
    PYRALOG_ASSIGN(state, catalog::Catalog::decode_snapshot(body, understood));
    return {};
  }
  if (frame[0] != kEntriesFrame) {
    return fail(Code::kUnsupported,
                "metadata log: frames of kind " + std::to_string(frame[0]) +
                    " are newer than this pyralog; start the version that wrote them");
  }
  PYRALOG_ASSIGN(const auto entries, decode_entries(body, understood));
  PYRALOG_ASSIGN(state, with(state, entries));
  return {};
}

}  // namespace

io::Task<Result<std::unique_ptr<LoneLog>>> LoneLog::open(io::Disk& disk, std::string data_dir,
                                                         Options options) {
  std::unique_ptr<LoneLog> self(new LoneLog(options));
  catalog::Catalog state;
  PYRALOG_CO_ASSIGN(self->journal_,
                    co_await journal::Journal::open(
                        disk, data_dir + kFile, journal_options(),
                        [&](ByteView frame) { return replay(state, frame, options.understood); }));
  self->catalog_ = std::make_shared<const catalog::Catalog>(std::move(state));
  co_return self;
}

io::Task<Result<CatalogPtr>> LoneLog::peek(io::Disk& disk, std::string data_dir) {
  catalog::Catalog state;
  PYRALOG_CO_TRY(co_await journal::Journal::peek(
      disk, data_dir + kFile, journal_options(),
      [&](ByteView frame) { return replay(state, frame, catalog::kFeatureLevel); }));
  co_return std::make_shared<const catalog::Catalog>(std::move(state));
}

io::Task<void> LoneLog::on_change(Observer observer) {
  observer_ = std::move(observer);
  // It is called within a proposal's turn.
  const auto guard = co_await turn_.lock();
}

io::Task<Result<CatalogPtr>> LoneLog::propose(Plan plan) {
  const auto guard = co_await turn_.lock();
  PYRALOG_CO_ASSIGN(const std::vector<catalog::Entry> entries, plan(*catalog_));
  if (entries.empty()) co_return catalog_;
  PYRALOG_CO_ASSIGN(catalog::Catalog next, with(*catalog_, entries));
  if (next.level() > options_.understood && !PYRALOG_PLANT("cluster.write_newer")) {
    co_return fail(catalog::too_new("this change", next.level(), options_.understood));
  }
  // One frame for a whole proposal: a crash or a full disk leaves all of its entries or none.
  PYRALOG_CO_ASSIGN(const journal::Position end,
                    journal_->append(framed(kEntriesFrame, encode_entries(entries))));
  if (!PYRALOG_PLANT("cluster.ack_before_sync")) PYRALOG_CO_TRY(co_await journal_->commit(end));
  catalog_ = std::make_shared<const catalog::Catalog>(std::move(next));
  const CatalogPtr committed = catalog_;
  if (const Observer observer = observer_) co_await observer(committed);
  PYRALOG_CO_TRY(co_await rewrite_if_large());
  co_return committed;
}

io::Task<Result<void>> LoneLog::rewrite_if_large() {
  if (journal_->size_bytes() < options_.rewrite_bytes) co_return Result<void>{};
  const CatalogPtr state = catalog_;
  auto rewritten = co_await journal_->rewrite(
      [state] { return std::vector<Bytes>{framed(kSnapshotFrame, state->encode_snapshot())}; });
  // The entry itself is durable; a failed rewrite leaves the longer journal, unless it is dead.
  if (!rewritten && journal_->dead()) co_return fail(std::move(rewritten.error()));
  // A state that is itself large is not rewritten at every entry, nor is a failure tried at each.
  options_.rewrite_bytes = std::max(options_.rewrite_bytes, 2 * journal_->size_bytes());
  co_return Result<void>{};
}

}  // namespace pyralog::cluster
