// doctest's own code, compiled once for all tests: with sanitizers it takes as long as most of them.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cfloat>  // which doctest 2.4.9 forgets for macOS

#include <doctest/doctest.h>
