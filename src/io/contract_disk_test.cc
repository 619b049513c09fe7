#include <algorithm>
#include <map>

#include "io/contract.h"
#include "io/disk.h"
#include "io/rng.h"

namespace pyralog::io {
namespace {

Disk& disk() { return Shard::current().disk(); }

Bytes bytes_of(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

template <typename T>
Code code_of(const Result<T>& result) {
  EXPECT_FALSE(result.has_value());
  return result ? Code::kUnsupported : result.error().code;
}

TEST_P(DiskContract, what_is_written_is_read) {
  run([&]() -> Task<void> {
    auto file = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    const Bytes a = bytes_of("hello, ");
    const Bytes b = bytes_of("world");
    const std::vector<ByteView> pieces{a, ByteView(), b};
    EXPECT_TRUE(file->write_at(0, pieces));
    EXPECT_EQ(file->size(), 12U);
    Bytes out(20);
    EXPECT_EQ((co_await file->read_at(0, out)).value(), 12U);
    EXPECT_EQ(as_text(ByteView(out).first(12)), "hello, world");
    EXPECT_EQ((co_await file->read_at(7, out)).value(), 5U);
    EXPECT_EQ((co_await file->read_at(12, out)).value(), 0U);
    EXPECT_EQ((co_await file->read_at(1000, out)).value(), 0U);
    EXPECT_EQ(file->path(), path("a"));
  });
}

TEST_P(DiskContract, direct_writes_are_read_as_any_other) {
  run([&]() -> Task<void> {
    auto file = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    constexpr std::size_t kBlock = File::kDirectBlock;
    Bytes space(6 * kBlock);
    const auto begin = reinterpret_cast<std::uintptr_t>(space.data());
    const MutableBytes blocks = MutableBytes(space).subspan(kBlock - begin % kBlock, 4 * kBlock);
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::uint8_t>(i * 7 >> 3);
    Bytes model(5 * kBlock + 100);
    bool durably = false;  // by turns
    const auto put = [&](std::uint64_t at, ByteView bytes) -> Task<void> {
      std::ranges::copy(bytes, model.begin() + static_cast<std::ptrdiff_t>(at));
      durably = !durably;
      EXPECT_TRUE(durably ? co_await file->write_durably(at, bytes) : co_await file->write_direct(at, bytes));
    };
    co_await put(0, blocks.first(3 * kBlock));
    EXPECT_EQ(file->size(), 3 * kBlock);
    co_await put(3 * kBlock, blocks.first(2 * kBlock));
    // Through the page cache, and over it.
    EXPECT_TRUE(file->write_at(kBlock + 10, as_bytes("between")));
    std::ranges::copy(as_bytes("between"), model.begin() + kBlock + 10);
    co_await put(2 * kBlock, blocks.subspan(kBlock, kBlock));
    EXPECT_EQ(file->syncs(), 2U);
    // Neither address, place nor length are right: it is written all the same.
    co_await put(4 * kBlock + 50, blocks.subspan(3, kBlock + 50));
    co_await put(4 * kBlock + 30, blocks.subspan(5, kBlock));
    co_await file->write_out(0, 2 * kBlock);
    EXPECT_TRUE((co_await file->sync()).has_value());
    Bytes out(model.size() + 1);
    EXPECT_EQ((co_await file->read_at(0, out)).value(), model.size());
    out.pop_back();
    EXPECT_TRUE(out == model);
    EXPECT_EQ((co_await file->read_stored(0, out)).value(), model.size());
    EXPECT_TRUE(out == model);
  });
}

TEST_P(DiskContract, many_small_pieces_are_one_write) {
  run([&]() -> Task<void> {
    auto file = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    Bytes all(3000);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i * 7);
    std::vector<ByteView> pieces;
    for (std::size_t i = 0; i < all.size(); i += 3) pieces.push_back(ByteView(all).subspan(i, 3));
    EXPECT_TRUE(file->write_at(5, pieces));
    EXPECT_EQ(file->size(), 3005U);
    Bytes out(3000);
    EXPECT_EQ((co_await file->read_at(5, out)).value(), 3000U);
    EXPECT_EQ(out, all);
  });
}

TEST_P(DiskContract, opening_keeps_to_its_mode) {
  run([&]() -> Task<void> {
    const std::string name = path("a");
    EXPECT_EQ(code_of(co_await disk().open(name, OpenMode::kRead)), Code::kNotFound);
    EXPECT_EQ(code_of(co_await disk().open(name, OpenMode::kReadWrite)), Code::kNotFound);
    const auto refused = co_await disk().open(name, OpenMode::kRead);
    EXPECT_NE(refused.error().message.find(name), std::string::npos);
    EXPECT_TRUE(co_await disk().open(name, OpenMode::kCreate));
    EXPECT_EQ(code_of(co_await disk().open(name, OpenMode::kCreate)), Code::kAlreadyExists);
    EXPECT_TRUE(co_await disk().open(name, OpenMode::kOpenOrCreate));
    auto reader = (co_await disk().open(name, OpenMode::kRead)).value();
    EXPECT_FALSE(reader->write_at(0, as_bytes("x")));
    EXPECT_EQ(code_of(co_await disk().open(path("no/such/dir"), OpenMode::kCreate)),
              Code::kNotFound);
    EXPECT_FALSE(co_await disk().open(path(""), OpenMode::kReadWrite));
  });
}

TEST_P(DiskContract, truncation_cuts_and_grows_with_zeros) {
  run([&]() -> Task<void> {
    auto file = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    EXPECT_TRUE(file->write_at(0, as_bytes("abcdef")));
    EXPECT_TRUE(co_await file->truncate(3));
    EXPECT_EQ(file->size(), 3U);
    EXPECT_TRUE(co_await file->truncate(5));
    Bytes out(9);
    EXPECT_EQ((co_await file->read_at(0, out)).value(), 5U);
    EXPECT_EQ(ByteView(out).first(5)[2], 'c');
    EXPECT_EQ(out[3], 0);
    EXPECT_EQ(out[4], 0);
  });
}

TEST_P(DiskContract, allocation_grows_with_zeros_and_never_cuts) {
  run([&]() -> Task<void> {
    auto file = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    EXPECT_TRUE(file->write_at(0, as_bytes("abc")));
    EXPECT_TRUE(co_await file->allocate(100'000));
    EXPECT_EQ(file->size(), 100'000U);
    EXPECT_TRUE(co_await file->allocate(10));
    EXPECT_EQ(file->size(), 100'000U);
    EXPECT_TRUE(co_await file->sync());
    file->drop_cache();
    Bytes out(100'001);
    EXPECT_EQ((co_await file->read_at(0, out)).value(), 100'000U);
    EXPECT_EQ(as_text(ByteView(out).first(3)), "abc");
    EXPECT_EQ(std::count(out.begin() + 3, out.end(), 0), 99'998);
    EXPECT_EQ((co_await disk().list(path(""))).value()[0].size, 100'000U);
  });
}

TEST_P(DiskContract, a_set_of_files_is_synced_in_one_call) {
  run([&]() -> Task<void> {
    std::vector<std::shared_ptr<File>> files;
    for (int i = 0; i < 20; ++i) {
      files.push_back(
          (co_await disk().open(path("f" + std::to_string(i)), OpenMode::kCreate)).value());
      EXPECT_TRUE(files.back()->write_at(0, as_bytes("data")));
    }
    files.push_back(files.front());  // twice is fine
    const auto results = co_await disk().sync(files);
    EXPECT_EQ(results.size(), files.size());
    for (const auto& result : results) EXPECT_TRUE(result);
    EXPECT_TRUE((co_await disk().sync({})).empty());
    EXPECT_TRUE(co_await files[3]->sync());
    files[3]->drop_cache();
    Bytes out(4);
    EXPECT_EQ((co_await files[3]->read_at(0, out)).value(), 4U);
    EXPECT_EQ(as_text(out), "data");
  });
}

TEST_P(DiskContract, what_is_stored_is_read_and_what_is_not_yet_is_not_lost) {
  run([&]() -> Task<void> {
    auto file = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    Bytes all(40'000);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i * 11 / 7);
    EXPECT_TRUE(file->write_at(0, all));
    auto reader = (co_await disk().open(path("a"), OpenMode::kRead)).value();
    for (const bool synced : {false, true}) {
      if (synced) EXPECT_TRUE(co_await file->sync());
      Bytes out(10'000);
      EXPECT_EQ((co_await reader->read_stored(5'000, out)).value(), 10'000U);
      EXPECT_TRUE(std::ranges::equal(out, ByteView(all).subspan(5'000, 10'000)));
      EXPECT_EQ((co_await reader->read_stored(35'000, out)).value(), 5'000U);
      EXPECT_TRUE(std::ranges::equal(ByteView(out).first(5'000), ByteView(all).subspan(35'000)));
      EXPECT_EQ((co_await reader->read_stored(40'000, out)).value(), 0U);
      EXPECT_EQ((co_await reader->read_stored(1'000'000, out)).value(), 0U);
    }
    Bytes out(40'000);
    EXPECT_EQ((co_await file->read_at(0, out)).value(), 40'000U);
    EXPECT_EQ(out, all);
  });
}

TEST_P(DiskContract, directories_are_made_listed_and_removed) {
  run([&]() -> Task<void> {
    EXPECT_TRUE(co_await disk().make_dirs(path("x/y/z")));
    EXPECT_TRUE(co_await disk().make_dirs(path("x/y/z")));
    EXPECT_TRUE(co_await disk().open(path("x/b"), OpenMode::kCreate));
    auto file = (co_await disk().open(path("x/a"), OpenMode::kCreate)).value();
    EXPECT_TRUE(file->write_at(0, as_bytes("123")));
    const auto entries = (co_await disk().list(path("x"))).value();
    EXPECT_EQ(entries.size(), 3U);
    EXPECT_EQ(entries[0].name, "a");
    EXPECT_EQ(entries[0].size, 3U);
    EXPECT_FALSE(entries[0].is_directory);
    EXPECT_EQ(entries[1].name, "b");
    EXPECT_EQ(entries[2].name, "y");
    EXPECT_TRUE(entries[2].is_directory);
    EXPECT_TRUE((co_await disk().exists(path("x/y"))).value());
    EXPECT_TRUE(co_await disk().sync_dir(path("x")));
    EXPECT_FALSE(co_await disk().make_dirs(path("x/a")));
    EXPECT_TRUE(co_await disk().remove_tree(path("x")));
    EXPECT_TRUE(co_await disk().remove_tree(path("x")));
    EXPECT_FALSE((co_await disk().exists(path("x"))).value());
    EXPECT_EQ(code_of(co_await disk().list(path("x"))), Code::kNotFound);
    EXPECT_EQ(code_of(co_await disk().sync_dir(path("x"))), Code::kNotFound);
  });
}

TEST_P(DiskContract, rename_replaces_and_open_files_live_on) {
  run([&]() -> Task<void> {
    auto old = (co_await disk().open(path("a"), OpenMode::kCreate)).value();
    EXPECT_TRUE(old->write_at(0, as_bytes("old")));
    auto fresh = (co_await disk().open(path("b"), OpenMode::kCreate)).value();
    EXPECT_TRUE(fresh->write_at(0, as_bytes("new")));
    EXPECT_TRUE(co_await disk().rename(path("b"), path("a")));
    EXPECT_EQ(as_text((co_await read_file(disk(), path("a"), 100)).value()), "new");
    EXPECT_FALSE((co_await disk().exists(path("b"))).value());
    EXPECT_TRUE(co_await disk().remove(path("a")));
    EXPECT_EQ(code_of(co_await disk().remove(path("a"))), Code::kNotFound);
    EXPECT_EQ(code_of(co_await disk().rename(path("a"), path("c"))), Code::kNotFound);
    Bytes out(3);
    EXPECT_EQ((co_await old->read_at(0, out)).value(), 3U);
    EXPECT_EQ(as_text(out), "old");
  });
}

TEST_P(DiskContract, files_are_read_whole_and_replaced_whole) {
  run([&]() -> Task<void> {
    EXPECT_TRUE(co_await replace_file(disk(), path("a"), bytes_of("one, quite long")));
    EXPECT_TRUE(co_await replace_file(disk(), path("a"), bytes_of("two")));
    EXPECT_EQ(as_text((co_await read_file(disk(), path("a"), 3)).value()), "two");
    EXPECT_EQ(code_of(co_await read_file(disk(), path("a"), 2)), Code::kTooLarge);
    EXPECT_EQ(code_of(co_await read_file(disk(), path("b"), 2)), Code::kNotFound);
    EXPECT_EQ((co_await disk().list(path(""))).value().size(), 1U);
  });
}

TEST_P(DiskContract, a_lock_has_one_holder) {
  run([&]() -> Task<void> {
    auto lock = co_await disk().lock(path("LOCK"));
    EXPECT_TRUE(lock);
    EXPECT_EQ(code_of(co_await disk().lock(path("LOCK"))), Code::kAlreadyExists);
    lock->reset();
    EXPECT_TRUE(co_await disk().lock(path("LOCK")));
  });
}

TEST_P(DiskContract, space_and_boot_are_known) {
  run([&]() -> Task<void> {
    const auto space = (co_await disk().space(path(""))).value();
    EXPECT_GT(space.total_bytes, 0U);
    EXPECT_LE(space.free_bytes, space.total_bytes);
    EXPECT_FALSE(disk().boot_id().empty());
    EXPECT_EQ(disk().boot_id(), disk().boot_id());
  });
}

TEST_P(DiskContract, random_calls_agree_with_a_plain_model) {
  run([&]() -> Task<void> {
    SeededRng rng(Shard::current().rng().next());
    std::map<std::string, Bytes> model;
    std::map<std::string, std::shared_ptr<File>> open;
    for (int step = 0; step < 600; ++step) {
      const std::string name = path("f" + std::to_string(rng.below(4)));
      if (!open.contains(name)) {
        open[name] = (co_await disk().open(name, OpenMode::kOpenOrCreate)).value();
        model.try_emplace(name);
      }
      Bytes& expected = model[name];
      const std::uint64_t choice = rng.below(10);
      if (choice < 4) {
        Bytes data(1 + rng.below(9000));
        rng.fill(data);
        const std::uint64_t at = rng.below(expected.size() + 100);
        EXPECT_TRUE(open[name]->write_at(at, data));
        if (expected.size() < at + data.size()) expected.resize(at + data.size());
        std::copy(data.begin(), data.end(), expected.begin() + static_cast<std::ptrdiff_t>(at));
      } else if (choice < 7) {
        Bytes out(1 + rng.below(20'000));
        const std::uint64_t at = rng.below(expected.size() + 50);
        const std::size_t got = (co_await open[name]->read_at(at, out)).value();
        const std::size_t there = at < expected.size() ? expected.size() - at : 0;
        EXPECT_EQ(got, std::min(there, out.size()));
        EXPECT_TRUE(std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(got),
                               expected.begin() + static_cast<std::ptrdiff_t>(std::min(at, expected.size()))));
      } else if (choice == 7) {
        const std::uint64_t size = rng.below(expected.size() + 5000);
        EXPECT_TRUE(co_await open[name]->truncate(size));
        expected.resize(size);
      } else if (choice == 8) {
        EXPECT_TRUE(co_await open[name]->sync());
        open[name]->drop_cache();
      } else {
        open.erase(name);
      }
      if (open.contains(name)) EXPECT_EQ(open[name]->size(), expected.size());
    }
  });
}

}  // namespace
}  // namespace pyralog::io
