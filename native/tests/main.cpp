// doctest's own code, compiled once for all tests: with sanitizers it takes as long as most of them.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
