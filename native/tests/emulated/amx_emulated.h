// AVX-512 with emulated matrix tiles: an instruction set of the tests.
#pragma once
#include "isa/avx512_vec.h"
//
#include "isa/amx_tiles.h"
