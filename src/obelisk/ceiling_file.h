#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "model/fundamental.h"

namespace pyralog::obelisk {

/// When an Obelisk may issue a value.
enum class Mode : std::uint16_t {
  kStrict = 1,  ///< after an fdatasync that covers it; no gaps but at a crash
  kLease = 2,   ///< from memory, below a ceiling that an fdatasync covers; a crash skips ≤ 2 leases
  kRelaxed = 3,  ///< never synced: survives the death of the process, not of the machine
};
[[nodiscard]] const char* name(Mode mode);
[[nodiscard]] Result<Mode> parse_mode(std::string_view text);

/// The first block of an Obelisk file, little-endian: magic "OBELISK1", u16 version, u16 mode, u32
/// granule, u64 base, u16 machine id, u16 namespace, u32 generation, 16-byte cluster uuid, u32
/// CRC-32C of these 48 bytes, zeros up to 4096. The rest of the file is a hole whose length is the
/// counter.
struct Header {
  Mode mode = Mode::kLease;
  std::uint32_t granule = 1;     ///< values per byte of file length; ≥ 1
  std::uint64_t base = 0;        ///< the ceiling of an empty file: the first value
  std::uint16_t machine_id = 0;  ///< of a Scarab generator, < 1024
  std::uint16_t name_space = 0;  ///< ids of different roles are different spaces
  std::uint32_t generation = 1;  ///< grows whenever the file is written anew
  Uuid cluster;
  friend bool operator==(const Header&, const Header&) = default;
};
inline constexpr std::uint64_t kHeaderBytes = 4096;
/// No file is let grow beyond; ext4 ends at 2⁴⁴ − 4096.
inline constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 43;

[[nodiscard]] Bytes encode_header(const Header& header);
/// kCorrupt (magic, checksum, impossible fields), kUnsupported (newer version). `path` is for the
/// message.
[[nodiscard]] Result<Header> decode_header(ByteView bytes, const std::string& path);

/// What an Obelisk file says, for people.
struct Inspection {
  Header header;
  std::uint64_t file_bytes = 0;
  std::uint64_t ceiling = 0;  ///< nothing at or above it has been issued
};
/// Reads a file without opening it for issuing; works while another process uses it. kNotFound,
/// kCorrupt, kUnsupported. Any shard.
[[nodiscard]] io::Task<Result<Inspection>> inspect(io::Disk& disk, std::string path);

/// A durable number that only grows: base + (file length − 4096) · granule. Growth is an ftruncate,
/// so the file occupies one block whatever the number. One holder at a time, by a lock on
/// PATH.lock. After a failed sync the file is never synced again: the ceiling stays where it was
/// until `renew` has written a fresh file. Lives on the shard that opened it.
class CeilingFile {
 public:
  /// Creates the file, durably with its name; kAlreadyExists if there is one.
  [[nodiscard]] static io::Task<Result<void>> create(io::Disk& disk, std::string path,
                                                     Header header);
  /// kNotFound, kAlreadyExists (held by another process), kCorrupt, kUnsupported, kIo.
  [[nodiscard]] static io::Task<Result<CeilingFile>> open(io::Disk& disk, std::string path);

  [[nodiscard]] const Header& header() const { return header_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Durable (relaxed: as written).
  [[nodiscard]] std::uint64_t ceiling() const { return ceiling_; }

  /// Makes the ceiling at least `target`. One call at a time. Any error stops the file for good.
  [[nodiscard]] io::Task<Result<void>> raise(std::uint64_t target);
  /// Writes a fresh file whose base lies above everything that `raise` was ever asked for, and goes
  /// on with it.
  [[nodiscard]] io::Task<Result<void>> renew();

 private:
  CeilingFile() = default;
  io::Task<Result<void>> grow(std::uint64_t target);

  io::Disk* disk_ = nullptr;
  std::string path_;
  Header header_;
  std::uint64_t ceiling_ = 0;
  std::uint64_t asked_ = 0;  ///< the highest ceiling that may be in the file
  bool stopped_ = false;
  std::shared_ptr<io::File> file_;
  std::unique_ptr<io::FileLock> lock_;
};

}  // namespace pyralog::obelisk
