# What `cmake --install` puts where, and the .deb that CPack makes of it.
include(GNUInstallDirs)

# Whatever the umask is: the same bytes twice.
set(CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
    WORLD_EXECUTE)

# The library is in `lib`, also where libraries for linking are in lib64 or lib/x86_64-linux-gnu: it is no such library,
# and the two files find each other through ../lib and ../bin (launcher/library.cpp, preload/standalone.cpp).
set(towpath_library_place lib)
install(TARGETS towpath RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS towpath_preload LIBRARY DESTINATION ${towpath_library_place}
        PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)

file(GLOB towpath_pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/*.md)
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/CHANGELOG.md ${CMAKE_SOURCE_DIR}/LICENSE
        DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${towpath_pages} DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/deploy DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${CMAKE_SOURCE_DIR}/docs/towpath.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

# Written by the installed command itself, when it is installed; a cross build runs it in the toolchain file's emulator.
set(completions ${CMAKE_BINARY_DIR}/completions)
file(MAKE_DIRECTORY ${completions})
foreach(shell bash zsh fish)
  install(CODE "execute_process(COMMAND ${CMAKE_CROSSCOMPILING_EMULATOR} \"$<TARGET_FILE:towpath>\" completion ${shell}
                                OUTPUT_FILE \"${completions}/${shell}\" COMMAND_ERROR_IS_FATAL ANY)")
endforeach()
set(share ${CMAKE_INSTALL_DATAROOTDIR})
install(FILES ${completions}/bash DESTINATION ${share}/bash-completion/completions RENAME towpath)
install(FILES ${completions}/zsh DESTINATION ${share}/zsh/site-functions RENAME _towpath)
install(FILES ${completions}/fish DESTINATION ${share}/fish/vendor_completions.d RENAME towpath.fish)

# The licences of what is linked in. They are looked up when something is installed, so that a build needs no dpkg; where
# there is none, whoever packages towpath there adds them.
find_program(DPKG_QUERY dpkg-query)
if(DPKG_QUERY)
  set(licenses ${CMAKE_BINARY_DIR}/licenses)
  set(linked "")
  foreach(archive yaml-cpp idn2 unistring cares uv_a ssl crypto)
    list(APPEND linked ${towpath_archive_${archive}})
  endforeach()
  foreach(archive libstdc++.a libgcc.a libgcc_eh.a libc.a)
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${archive} OUTPUT_VARIABLE path
                    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    list(APPEND linked ${path})
  endforeach()
  list(APPEND linked /usr/include/CLI/CLI.hpp)
  list(JOIN linked "\" \"" linked)
  install(CODE "execute_process(COMMAND \"${CMAKE_SOURCE_DIR}/scripts/licenses\" --root \"${TOWPATH_TARGET_ROOT}\"
                                        \"${licenses}\" \"${linked}\" COMMAND_ERROR_IS_FATAL ANY)")
  install(DIRECTORY ${licenses}/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/licenses PATTERN THIRD-PARTY EXCLUDE)
  install(FILES ${licenses}/THIRD-PARTY DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
else()
  message(STATUS "no dpkg-query: the licences of the libraries that are linked in will not be installed")
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME towpath)
set(CPACK_PACKAGE_VENDOR towpath)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "proxies for programs that know nothing of proxies")
set(CPACK_PACKAGE_DESCRIPTION
"towpath carries the connections of unmodified programs through HTTP, HTTPS
and SOCKS5 proxies, and shows unmodified servers the true address of their
clients behind a reverse proxy. Programs are started by `towpath run`, or get
the library through LD_PRELOAD; static and Go programs are followed as well.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS ${CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS})
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "towpath maintainers <maintainers@towpath.invalid>" CACHE STRING
    "who stands for the package")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# The executable is static. The library needs the libc of the program that it is loaded into (tests/lint/test_library.py).
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= 2.28)")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE arm64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE amd64)
endif()
set(CPACK_DEBIAN_FILE_NAME towpath_${PROJECT_VERSION}_${CPACK_DEBIAN_PACKAGE_ARCHITECTURE}.deb)
set(CPACK_VERBATIM_VARIABLES ON)
include(CPack)
