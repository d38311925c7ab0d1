#include "base/program_file.h"

#include <cerrno>
#include <cstring>
#include <string_view>

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/sys.h"

namespace towpath {

namespace {

#if defined(__x86_64__)
constexpr Elf64_Half own_machine = EM_X86_64;
#else
constexpr Elf64_Half own_machine = EM_AARCH64;
#endif

constexpr unsigned most_segments = 256;
constexpr unsigned most_sections = 4096;

bool read_at(int fd, std::uint64_t offset, void* to, std::size_t size) noexcept {
  return offset <= INT64_MAX &&
         sys::call(SYS_pread64, fd, to, size, static_cast<long>(offset)) == static_cast<long>(size);
}

// Go's linker names the section so with every way of linking; `go version` looks for it, too.
bool has_go_section(int fd, const Elf64_Ehdr& head) noexcept {
  constexpr std::string_view wanted{".go.buildinfo\0", 14};
  Elf64_Shdr names;
  if (!read_at(fd, head.e_shoff + std::uint64_t{head.e_shstrndx} * sizeof names, &names, sizeof names)) return false;
  Elf64_Shdr sections[16];
  for (unsigned first = 0; first < head.e_shnum && first < most_sections; first += 16) {
    const unsigned count = head.e_shnum - first < 16 ? head.e_shnum - first : 16;
    if (!read_at(fd, head.e_shoff + std::uint64_t{first} * sizeof *sections, sections, count * sizeof *sections))
      return false;
    for (unsigned i = 0; i < count; ++i) {
      if (sections[i].sh_type != SHT_PROGBITS || (sections[i].sh_flags & SHF_EXECINSTR) != 0) continue;
      char name[wanted.size()];
      if (read_at(fd, names.sh_offset + sections[i].sh_name, name, sizeof name) &&
          std::memcmp(name, wanted.data(), sizeof name) == 0)
        return true;
    }
  }
  return false;
}

// The interpreter of a "#!" line, as the kernel cuts it out of the file's first bytes. False: there is none.
bool script_interpreter(std::string_view line, char (&path)[4096]) noexcept {
  line.remove_prefix(2);
  if (const auto end = line.find('\n'); end != line.npos) line.remove_suffix(line.size() - end);
  while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
  if (const auto end = line.find_first_of(std::string_view(" \t\0", 3)); end != line.npos)
    line.remove_suffix(line.size() - end);
  if (line.empty() || line.size() >= sizeof path) return false;
  std::memcpy(path, line.data(), line.size());
  path[line.size()] = '\0';
  return true;
}

// The kernel compares the effective ids of afterwards with the real ones of before (bprm->secureexec).
bool is_secure() noexcept {
  return sys::call(SYS_getuid) != sys::call(SYS_geteuid) || sys::call(SYS_getgid) != sys::call(SYS_getegid);
}

bool is_privileged(int fd, const struct stat& status) noexcept {
  const auto effective_user = static_cast<uid_t>(sys::call(SYS_geteuid));
  const auto effective_group = static_cast<gid_t>(sys::call(SYS_getegid));
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != effective_user) return true;
  if ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status.st_gid != effective_group) return true;
  // To the kernel, capabilities from a file are nothing new for root.
  return sys::call(SYS_getuid) != 0 && sys::call(SYS_fgetxattr, fd, "security.capability", 0, 0) > 0;
}

}  // namespace

void inspect_image(int fd, ProgramFile& out) noexcept {
  out.kind = ProgramFile::Kind::unknown;
  out.go = false;
  Elf64_Ehdr head{};
  if (!read_at(fd, 0, &head, EI_NIDENT) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) return;
  if (!read_at(fd, 0, &head, sizeof head)) return;
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != own_machine) {
    out.kind = ProgramFile::Kind::foreign;
    return;
  }
  out.kind = ProgramFile::Kind::static_binary;
  for (unsigned i = 0; i < head.e_phnum && i < most_segments; ++i) {
    Elf64_Phdr segment;
    if (!read_at(fd, head.e_phoff + std::uint64_t{i} * sizeof segment, &segment, sizeof segment)) break;
    if (segment.p_type == PT_INTERP) out.kind = ProgramFile::Kind::dynamic;
  }
  out.go = has_go_section(fd, head);
}

void inspect_program(const char* path, ProgramFile& out) noexcept {
  const auto unreadable = [&](long error) {
    out.kind = ProgramFile::Kind::unreadable;
    out.error = static_cast<int>(error);
  };
  const std::size_t size = std::strlen(path);
  if (size >= sizeof out.path) return unreadable(ENAMETOOLONG);
  std::memcpy(out.path, path, size + 1);
  for (int level = 0; level < 6; ++level) {
    const long fd = sys::call(SYS_openat, AT_FDCWD, out.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return unreadable(-fd);
    struct stat status {};
    char first[256];  // as much as the kernel looks at
    const long got = sys::call(SYS_pread64, fd, first, sizeof first, 0);
    const bool script = got > 2 && first[0] == '#' && first[1] == '!';
    bool found = false;
    // The kernel's numbering of struct stat is libc's on the machines that sys.h knows.
    if (const long error = sys::call(SYS_fstat, fd, &status); error != 0) unreadable(-error);
    else if (!S_ISREG(status.st_mode)) out.kind = ProgramFile::Kind::unknown;
    else if (script) found = script_interpreter({first, static_cast<std::size_t>(got)}, out.path);
    else {
      inspect_image(static_cast<int>(fd), out);
      out.privileged = is_privileged(static_cast<int>(fd), status);
      out.secure = is_secure();
    }
    sys::call(SYS_close, fd);
    if (!found) return;
  }
}

}  // namespace towpath
