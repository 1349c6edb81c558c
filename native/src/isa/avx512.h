// AVX-512 with its products of pairs of bfloat16.
#pragma once
#include "isa/avx512_vec.h"
//
#include "isa/avx512_pairs.h"
