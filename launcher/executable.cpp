#include "launcher/executable.h"

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "launcher/commands.h"

namespace towpath {

namespace {

#if defined(__x86_64__)
constexpr Elf64_Half own_machine = EM_X86_64;
#else
constexpr Elf64_Half own_machine = EM_AARCH64;
#endif

// The whole file, read-only; every access is checked against its size.
class Image {
 public:
  explicit Image(int fd) {
    struct stat status {};
    if (fstat(fd, &status) != 0 || status.st_size <= 0) return;
    void* at = mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (at != MAP_FAILED) bytes_ = {static_cast<const char*>(at), static_cast<std::size_t>(status.st_size)};
  }
  ~Image() {
    if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  [[nodiscard]] std::string_view part(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return {};
    return bytes_.substr(offset, size);
  }
  template <class T>
  [[nodiscard]] bool read(std::uint64_t offset, T& out) const {
    const auto from = part(offset, sizeof(T));
    if (from.empty()) return false;
    std::memcpy(&out, from.data(), sizeof(T));
    return true;
  }
  [[nodiscard]] std::string_view all() const { return bytes_; }

 private:
  std::string_view bytes_;
};

bool has_section(const Image& image, const Elf64_Ehdr& head, std::string_view wanted) {
  Elf64_Shdr names{};
  if (!image.read(head.e_shoff + std::uint64_t{head.e_shstrndx} * sizeof(Elf64_Shdr), names)) return false;
  for (unsigned i = 0; i < head.e_shnum; ++i) {
    Elf64_Shdr section{};
    if (!image.read(head.e_shoff + std::uint64_t{i} * sizeof section, section)) return false;
    if (section.sh_name >= names.sh_size) continue;
    const auto text = image.part(names.sh_offset + section.sh_name, wanted.size() + 1);
    if (text.size() == wanted.size() + 1 && text.substr(0, wanted.size()) == wanted && text.back() == '\0') return true;
  }
  return false;
}

Executable::Kind elf_kind(const Image& image) {
  Elf64_Ehdr head{};
  if (!image.read(0, head) || head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != own_machine)
    return Executable::Kind::foreign;
  bool interpreter = false;
  for (unsigned i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr segment{};
    if (!image.read(head.e_phoff + std::uint64_t{i} * sizeof segment, segment)) break;
    interpreter = interpreter || segment.p_type == PT_INTERP;
  }
  if (!interpreter) return Executable::Kind::static_binary;
  return has_section(image, head, ".go.buildinfo") ? Executable::Kind::go : Executable::Kind::dynamic;
}

}  // namespace

Executable inspect_executable(const std::string& path) {
  Executable out;
  out.path = path;
  for (int level = 0; level < 5; ++level) {
    const UniqueFd fd(open(out.path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!fd || fstat(fd.get(), &status) != 0) {
      out.error = errno;
      out.kind = Executable::Kind::unreadable;
      return out;
    }
    const Image image(fd.get());
    const std::string_view bytes = image.all();
    if (bytes.starts_with("#!")) {
      std::string_view line = bytes.substr(2, bytes.find('\n') - 2);
      while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
      const std::string_view interpreter = line.substr(0, line.find_first_of(" \t\r"));
      if (interpreter.empty()) return out;
      out.path = interpreter;
      continue;
    }
    if (!bytes.starts_with("\x7f"
                           "ELF")) {
      return out;
    }
    const bool other_owner =
        ((status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid()) ||
        ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status.st_gid != getegid());
    // To the kernel, capabilities from a file are nothing new for root.
    const bool capable = getuid() != 0 && fgetxattr(fd.get(), "security.capability", nullptr, 0) > 0;
    if (other_owner || capable) out.kind = Executable::Kind::privileged;
    else out.kind = elf_kind(image);
    return out;
  }
  return out;
}

std::string find_in_path(const std::string& command, const char* path_variable, int& error) {
  const auto usable = [&](const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return false;
    if (S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0) return true;
    error = EACCES;
    return false;
  };
  error = ENOENT;
  if (command.empty()) return {};
  if (command.find('/') != command.npos) return usable(command) ? command : std::string();
  std::string_view path = path_variable != nullptr ? path_variable : "/usr/local/bin:/usr/bin:/bin";
  for (;;) {
    const auto colon = path.find(':');
    const std::string directory(path.substr(0, colon));
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + command;
    if (usable(candidate)) return candidate;
    if (colon == path.npos) return {};
    path.remove_prefix(colon + 1);
  }
}

std::string why_not(const Executable& executable) {
  switch (executable.kind) {
    case Executable::Kind::dynamic: return {};
    case Executable::Kind::static_binary:
      return executable.path +
             " is statically linked: this version of towpath reaches dynamically linked programs only";
    case Executable::Kind::go:
      return executable.path +
             " is a Go program, whose system calls do not go through libc: this version of towpath cannot reach it";
    case Executable::Kind::privileged:
      return executable.path + " is setuid, setgid or has file capabilities: the loader would ignore towpath's library";
    case Executable::Kind::foreign: return executable.path + " is built for another machine than towpath's library";
    case Executable::Kind::unreadable:
      return "cannot look into " + executable.path + ", which would be started: " + std::strerror(executable.error);
    case Executable::Kind::unknown:
      return "cannot execute " + executable.path + ": it is neither an ELF program nor a script that begins with #!";
  }
  return "unknown kind of program";
}

int refusal_status(const Executable& executable) {
  if (executable.kind == Executable::Kind::unknown) return exit_cannot_execute;
  if (executable.kind == Executable::Kind::unreadable && executable.error == ENOENT) return exit_not_found;
  return exit_towpath_failed;
}

}  // namespace towpath
