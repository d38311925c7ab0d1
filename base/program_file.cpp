#include "base/program_file.h"

#include <cerrno>
#include <cstring>
#include <string_view>

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/preload_list.h"
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

// Where an address of the image lies in its file: by the segments that are loaded.
struct Loads {
  static constexpr unsigned most = 16;
  Elf64_Phdr each[most];
  unsigned count = 0;

  void add(const Elf64_Phdr& segment) noexcept {
    if (segment.p_type == PT_LOAD && count < most) each[count++] = segment;
  }
  [[nodiscard]] bool find(std::uint64_t address, std::uint64_t& offset) const noexcept {
    for (unsigned i = 0; i < count; ++i) {
      if (address < each[i].p_vaddr || address - each[i].p_vaddr >= each[i].p_filesz) continue;
      offset = each[i].p_offset + (address - each[i].p_vaddr);
      return true;
    }
    return false;
  }
};

// Compilers name such a runtime before the libraries of the program's own.
void find_runtime(int fd, const Elf64_Phdr& dynamic, const Loads& loads, char (&out)[64]) noexcept {
  constexpr unsigned most_entries = 256, most_needed = 8;
  std::uint64_t needed[most_needed];
  unsigned count = 0;
  std::uint64_t names = 0, names_at = 0;
  Elf64_Dyn entries[32];
  for (unsigned first = 0; first < most_entries; first += 32) {
    std::uint64_t size = sizeof entries;
    if (dynamic.p_filesz <= first * sizeof *entries) break;
    if (dynamic.p_filesz - first * sizeof *entries < size) size = dynamic.p_filesz - first * sizeof *entries;
    if (!read_at(fd, dynamic.p_offset + first * sizeof *entries, entries, size)) return;
    bool last = false;
    for (unsigned i = 0; i < size / sizeof *entries && !last; ++i) {
      if (entries[i].d_tag == DT_STRTAB) names = entries[i].d_un.d_ptr;
      if (entries[i].d_tag == DT_NEEDED && count < most_needed) needed[count++] = entries[i].d_un.d_val;
      last = entries[i].d_tag == DT_NULL;
    }
    if (last) break;
  }
  if (count == 0 || !loads.find(names, names_at)) return;
  for (unsigned i = 0; i < count; ++i) {
    char name[sizeof out];
    if (!read_at(fd, names_at + needed[i], name, sizeof name)) continue;
    const std::size_t size = strnlen(name, sizeof name);
    // The list that it goes into cannot hold every name.
    const std::string_view text(name, size);
    if (size == sizeof name || !insists_on_being_first(text) || text.find_first_of(" :;$\t\n") != text.npos) continue;
    std::memcpy(out, name, size + 1);
    return;
  }
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
  out.runtime[0] = '\0';
  Elf64_Ehdr head{};
  if (!read_at(fd, 0, &head, EI_NIDENT) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) return;
  if (!read_at(fd, 0, &head, sizeof head)) return;
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != own_machine) {
    out.kind = ProgramFile::Kind::foreign;
    return;
  }
  out.kind = ProgramFile::Kind::static_binary;
  Loads loads;
  Elf64_Phdr dynamic{};
  for (unsigned i = 0; i < head.e_phnum && i < most_segments; ++i) {
    Elf64_Phdr segment;
    if (!read_at(fd, head.e_phoff + std::uint64_t{i} * sizeof segment, &segment, sizeof segment)) break;
    if (segment.p_type == PT_INTERP) out.kind = ProgramFile::Kind::dynamic;
    if (segment.p_type == PT_DYNAMIC) dynamic = segment;
    loads.add(segment);
  }
  if (out.kind == ProgramFile::Kind::dynamic) find_runtime(fd, dynamic, loads, out.runtime);
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
