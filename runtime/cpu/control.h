/* Writes to system registers that cpu.h does not name. Checked like those: EXEC_LEAVE, or EXEC_FAULT with #GP(0). */
#ifndef AVANT_CPU_CONTROL_H
#define AVANT_CPU_CONTROL_H

#include "cpu/vcpu.h"
#include "util/types.h"

enum exec cpu_write_efer(struct vcpu *v, u64 value);
enum exec cpu_write_xcr0(struct vcpu *v, u64 value);

#endif
