// Bounded reading and writing of small binary messages. Both never go past their span and remember
// that they were asked to: check ok() once, at the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace towpath {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> in) noexcept : in_(in) {}

  template <class T>
  requires std::is_trivially_copyable_v<T> T take()
  noexcept {
    T out{};
    if (in_.size() < sizeof(T)) {
      fail();
      return out;
    }
    std::memcpy(&out, in_.data(), sizeof(T));
    in_ = {in_.data() + sizeof(T), in_.size() - sizeof(T)};
    return out;
  }

  std::string_view text(std::size_t size) noexcept {
    if (in_.size() < size) {
      fail();
      return {};
    }
    const std::string_view out{reinterpret_cast<const char*>(in_.data()), size};
    in_ = {in_.data() + size, in_.size() - size};
    return out;
  }

  [[nodiscard]] std::size_t left() const noexcept { return in_.size(); }
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  void fail() noexcept {
    ok_ = false;
    in_ = {};
  }

 private:
  std::span<const std::byte> in_;
  bool ok_ = true;
};

class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> out) noexcept : out_(out) {}

  template <class T>
  requires std::is_trivially_copyable_v<T>
  void put(const T& value) noexcept { raw(&value, sizeof value); }
  void text(std::string_view text) noexcept { raw(text.data(), text.size()); }

  [[nodiscard]] std::size_t size() const noexcept { return used_; }
  [[nodiscard]] bool ok() const noexcept { return ok_; }

 private:
  void raw(const void* from, std::size_t size) noexcept {
    if (size == 0) return;
    if (out_.size() - used_ < size) {
      ok_ = false;
      return;
    }
    std::memcpy(out_.data() + used_, from, size);
    used_ += size;
  }

  std::span<std::byte> out_;
  std::size_t used_ = 0;
  bool ok_ = true;
};

}  // namespace towpath
