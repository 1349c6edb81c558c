# A module that was linked on a newer Linux, by GCC, runs on every one from glibc 2.17 on (manylinux_2_17).
#
# Of all that the engine takes from glibc three functions are newer, and of what libstdc++ takes one variable: old_glibc.cpp has them.
# That is less than a compiler for old systems would be, and the kernels stay those of GCC: Clang's (as in the ziglang package) take up
# to twice as long for gradients with AVX-512, and its runtime library does not know what the processor can do.
function(run_on_old_glibc module)
  target_sources(${module} PRIVATE ${PROJECT_SOURCE_DIR}/wheels/old_glibc.cpp)
  target_link_options(${module} PRIVATE
    -static-libstdc++ -Wl,--exclude-libs,ALL  # none of its names are seen by, or taken from, the libstdc++ of others in the process
    -Wl,--gc-sections  # most of libstdc++ is left out, files and random devices too, which want functions of glibc 2.33 and 2.36
    # libgcc stays outside: its unwinder is the one of the process, and inside it would want _dl_find_object of glibc 2.35.
    -Wl,--wrap=pthread_create -Wl,--wrap=pthread_detach -Wl,--wrap=pthread_mutex_trylock)
  # Where older ones have these functions. It has none since 2.34, but is there.
  target_link_libraries(${module} PRIVATE -Wl,--push-state,--no-as-needed -l:libpthread.so.0 -Wl,--pop-state)
endfunction()
