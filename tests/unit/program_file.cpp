#include "base/program_file.h"
#include "tests/unit/scratch.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace towpath;
using Kind = ProgramFile::Kind;

namespace {

struct Folder : TempDirectory {
  std::string file(const std::string& name, const std::string& text, mode_t mode = 0755) {
    const std::string at = *this / name;
    std::FILE* out = std::fopen(at.c_str(), "w");
    REQUIRE(out != nullptr);
    REQUIRE(std::fwrite(text.data(), 1, text.size(), out) == text.size());
    std::fclose(out);
    chmod(at.c_str(), mode);
    return at;
  }
};

ProgramFile inspect(const std::string& path) {
  ProgramFile out;
  inspect_program(path.c_str(), out);
  return out;
}

std::string contents(const char* path) {
  std::string out;
  std::FILE* in = std::fopen(path, "r");
  REQUIRE(in != nullptr);
  char part[4096];
  for (std::size_t size; (size = std::fread(part, 1, sizeof part, in)) > 0;) out.append(part, size);
  std::fclose(in);
  return out;
}

}  // namespace

TEST_CASE("a dynamic program, and scripts that lead to it") {
  Folder folder;
  CHECK(inspect("/bin/echo").kind == Kind::dynamic);
  CHECK(inspect("/bin/echo").preloadable());
  const std::string one = folder.file("one", "#! /bin/echo -n\n");
  const std::string two = folder.file("two", "#!" + one + "\nrest");
  CHECK(inspect(two).kind == Kind::dynamic);
  CHECK(std::string(inspect(two).path) == "/bin/echo");
  CHECK(inspect(folder.file("loop", "#!" + (folder / "loop") + "\n")).kind == Kind::unknown);
  CHECK(inspect(folder.file("empty line", "#!\n")).kind == Kind::unknown);
  CHECK(inspect(folder.file("no newline", "#!/bin/echo")).kind == Kind::dynamic);
}

TEST_CASE("what is no program") {
  Folder folder;
  CHECK(inspect(folder.path()).kind == Kind::unknown);
  CHECK(inspect(folder.file("text", "echo\n")).kind == Kind::unknown);
  CHECK(inspect(folder.file("nothing", "")).kind == Kind::unknown);
  const ProgramFile missing = inspect(folder / "missing");
  CHECK(missing.kind == Kind::unreadable);
  CHECK(missing.error == ENOENT);
  CHECK(inspect(std::string(5000, 'x')).error == ENAMETOOLONG);
}

TEST_CASE("an image that was cut or lies about itself is read within its bounds") {
  Folder folder;
  const std::string image = contents("/bin/echo");
  for (const std::size_t size : {4u, 16u, 63u, 64u, 100u, 120u, 4096u}) {
    const Kind kind = inspect(folder.file("cut", image.substr(0, size))).kind;
    CHECK((kind == Kind::unknown || kind == Kind::static_binary || kind == Kind::dynamic));
  }
  std::string narrow = image;
  narrow[4] = 1;  // 32 bits
  CHECK(inspect(folder.file("narrow", narrow)).kind == Kind::foreign);
  for (std::size_t at = 32; at < 64; ++at) {  // offsets, counts
    std::string wrong = image.substr(0, 8192);
    wrong[at] = '\xff';
    (void)inspect(folder.file("wrong", wrong));
  }
}
