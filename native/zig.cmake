# For cross-builds: clang as the ziglang package of PyPI has it, with the headers and libraries of ${zig_target}. CMake wants programs
# that are one path each.
find_program(ZIG python-zig HINTS ${CMAKE_CURRENT_LIST_DIR}/../.venv/bin REQUIRED)
foreach(program cc c++ ar ranlib)
  set(command ${program})
  if(program MATCHES "^c")
    set(command "${program} -target ${zig_target}")
  endif()
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/zig/${program} CONTENT "#!/bin/sh\nexec @ZIG@ @command@ \"$@\"\n" @ONLY)
  file(CHMOD ${CMAKE_BINARY_DIR}/zig/${program} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endforeach()
set(CMAKE_C_COMPILER ${CMAKE_BINARY_DIR}/zig/cc)
set(CMAKE_CXX_COMPILER ${CMAKE_BINARY_DIR}/zig/c++)
set(CMAKE_AR ${CMAKE_BINARY_DIR}/zig/ar)
set(CMAKE_RANLIB ${CMAKE_BINARY_DIR}/zig/ranlib)
set(CMAKE_CXX_FLAGS_INIT -g0)  # what is for debugging is there otherwise, in a Release, too
include(${CMAKE_CURRENT_LIST_DIR}/host_headers.cmake)
