// AVX-512 with matrix tiles.
#pragma once
#include "isa/avx512_vec.h"
//
#include "isa/amx_tiles.h"
