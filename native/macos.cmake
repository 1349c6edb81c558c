# Cross-build for macOS, -DCMAKE_SYSTEM_PROCESSOR=arm64 or x86_64. Nothing here runs what it makes.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CMAKE_SYSTEM_PROCESSOR)
string(REPLACE arm64 aarch64 zig_target ${CMAKE_SYSTEM_PROCESSOR}-macos)
set(CMAKE_INSTALL_NAME_TOOL true)  # CMake asks for it, and installs nothing here
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
