/* Internal to x86/: which arithmetic flags an instruction reads, may change and certainly changes. */
#ifndef AVANT_X86_FLAGS_H
#define AVANT_X86_FLAGS_H

#include <Zydis/Zydis.h>

#include "x86/insn.h"

/* Fills flags_read, flags_write and flags_kill of an otherwise complete description. `accessed` may be NULL. */
void insn_flags(struct insn *insn, const ZydisAccessedFlags *accessed);

#endif
