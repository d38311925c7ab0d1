// /etc/hosts: name -> addresses. Read again when it was replaced or rewritten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/endpoint.h"
#include "resolver/file_text.h"

namespace towpath {

class HostsFile {
 public:
  static constexpr std::size_t most_bytes = 10 * 1024 * 1024;  // lines behind this are not read
  static constexpr std::size_t most_addresses = 64;            // of one name

  // The file need not exist.
  explicit HostsFile(std::string path) : path_(std::move(path)) {}

  // All addresses of a name or alias on any line, in file order, each once. Case-insensitive; one trailing dot
  // is ignored. Empty: not in the file. One stat(2), and a read when the file changed.
  [[nodiscard]] std::vector<IpAddress> lookup(std::string_view name);

 private:
  struct Entry {
    std::uint32_t offset;  // of the name in text_
    std::uint32_t size;
    IpAddress address;
  };
  void refresh();
  void read_line(std::string_view line);
  std::string_view name_of(const Entry& entry) const noexcept {
    return std::string_view(text_).substr(entry.offset, entry.size);
  }

  std::string path_;
  FileStamp stamp_;
  std::string text_;            // lower case
  std::vector<Entry> entries_;  // sorted by name, then in file order
};

}  // namespace towpath
