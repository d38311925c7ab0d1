// A small configuration file that others rewrite: its text, and whether it is still the same file.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

namespace towpath {

// Equal stamps: not replaced and not rewritten. All zero: there is no such file.
struct FileStamp {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;

  // One stat(2); follows symbolic links.
  [[nodiscard]] static FileStamp of(const std::string& path) noexcept;
  friend bool operator==(const FileStamp&, const FileStamp&) noexcept = default;
};

struct FileText {
  std::string text;  // at most the limit, whole lines; empty when the file is absent, unreadable or not a regular one
  FileStamp stamp;   // of the file that was read
};

[[nodiscard]] FileText read_file_text(const std::string& path, std::size_t limit_bytes);

}  // namespace towpath
