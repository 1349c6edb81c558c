# Cross-build for WebAssembly with SIMD by Emscripten (Debian: emscripten); the tests run under Node.
set(EMSCRIPTEN_SYSTEM_PROCESSOR wasm32)
# Node's own fetch, which is no browser's, confuses what Emscripten 3.1 loads modules with.
set(CMAKE_CROSSCOMPILING_EMULATOR node --no-experimental-fetch)
set(CMAKE_C_FLAGS_INIT "-msimd128 -fwasm-exceptions")
set(CMAKE_CXX_FLAGS_INIT "-msimd128 -fwasm-exceptions")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-O1 -sALLOW_MEMORY_GROWTH -sEXIT_RUNTIME -sNODERAWFS")
include(/usr/share/emscripten/cmake/Modules/Platform/Emscripten.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/host_headers.cmake)
