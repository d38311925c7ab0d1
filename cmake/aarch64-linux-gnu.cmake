# Toolchain file: Debian's cross compiler for arm64 (package g++-aarch64-linux-gnu). TOWPATH_TARGET_ROOT is a directory that
# holds the unpacked arm64 packages of the static archives (scripts/package --arch arm64 makes it); what is headers only
# and the same everywhere (CLI11, doctest) comes from this machine.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TOWPATH_TARGET_ROOT)
if(NOT IS_DIRECTORY "${TOWPATH_TARGET_ROOT}")
  message(FATAL_ERROR "TOWPATH_TARGET_ROOT is no directory: use scripts/package --arch arm64")
endif()
# Before /usr/include, which the cross compiler searches too and which may hold the same headers for this machine.
set(CMAKE_C_STANDARD_INCLUDE_DIRECTORIES ${TOWPATH_TARGET_ROOT}/usr/include
                                         ${TOWPATH_TARGET_ROOT}/usr/include/aarch64-linux-gnu)
set(CMAKE_CXX_STANDARD_INCLUDE_DIRECTORIES ${CMAKE_C_STANDARD_INCLUDE_DIRECTORIES})

set(CMAKE_FIND_ROOT_PATH ${TOWPATH_TARGET_ROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

# What the build itself runs of its own output (completions) runs here; the tests of scripts/test-arm64 as well.
find_program(TOWPATH_QEMU NAMES qemu-aarch64 qemu-aarch64-static REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${TOWPATH_QEMU} -L /usr/aarch64-linux-gnu)
