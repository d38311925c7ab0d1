// Files and directories of a test, gone with the object.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

class TempDirectory {
 public:
  TempDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "towpath-unit-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = std::filesystem::canonical(name).string();
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class TempFile {
 public:
  explicit TempFile(std::string_view content = {}) { write(content); }
  void write(std::string_view content) const { fill(path(), content); }
  // Another file under the same name.
  void replace(std::string_view content) const {
    fill(directory_ / "next", content);
    std::filesystem::rename(directory_ / "next", path());
  }
  [[nodiscard]] std::string path() const { return directory_ / "file"; }

 private:
  static void fill(const std::string& name, std::string_view content) {
    std::ofstream out(name, std::ios::binary);
    out << content;
    out.close();
    REQUIRE(out.good());
  }

  TempDirectory directory_;
};
