#include "cpu/cpu.h"

#define X(name) [HELP_##name] = help_##name,
insn_helper_fn *const cpu_helpers[HELP_COUNT] = {INSN_HELPERS(X)};
#undef X
