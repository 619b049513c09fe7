// Opens arbitrary bytes as a journal: frames, torn tails and damage, in bounded time and memory.
#include <cstddef>
#include <cstdint>

#include "base/crc32c.h"
#include "journal/format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pyralog;
  const ByteView input(data, size);
  (void)journal::decode_file_header(input, "fuzzed");
  // Frames with sound checksums between the fuzzer's own bytes reach what random bytes cannot.
  Bytes file(journal::kFileHeaderBytes, 0);
  const std::uint32_t seed = size == 0 ? 0 : data[0];
  std::size_t at = 1;
  while (at + 2 < size) {
    const std::size_t length = data[at] % 64;
    const bool sound = (data[at + 1] & 1) != 0;
    const ByteView payload = input.subspan(at + 2, std::min(length, size - at - 2));
    at += 2 + payload.size();
    Bytes header;
    journal::encode_frame_header(header, payload, file.size(), file.size() - data[at - 1] % 64, seed);
    if (!sound) header[data[at - 1] % header.size()] ^= 0x10;
    file.insert(file.end(), header.begin(), header.end());
    file.insert(file.end(), payload.begin(), payload.end());
  }
  std::uint64_t position = journal::kFileHeaderBytes;
  while (const auto frame = journal::read_frame(file, position, seed, 4096)) {
    if (frame->durable > position) __builtin_trap();
    position += journal::kFrameHeaderBytes + frame->payload.size();
    if (position > file.size()) __builtin_trap();
  }
  const auto witness = journal::find_witness(file, position, seed, 4096);
  if (witness && *witness <= position) __builtin_trap();
  return 0;
}
