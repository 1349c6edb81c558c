// The instruction set that this file is compiled for: its Vec, its products of pairs (FASTLSTM_PAIRS) and its matrix tiles
// (FASTLSTM_TILES), where it has them. FASTLSTM_ISA is its name, and the namespace of everything that is compiled for it. Who
// chooses one does so before the first include, and passes the compiler's flags for it; where nobody has, it is generic.
#pragma once

#ifndef FASTLSTM_ISA
#define FASTLSTM_ISA generic
#endif

#define FASTLSTM_QUOTED(name) #name
#define FASTLSTM_QUOTED_VALUE(name) FASTLSTM_QUOTED(name)
#include FASTLSTM_QUOTED_VALUE(FASTLSTM_ISA.h)
