#include "insn/machine.h"
#include "lift_engine.h"

void lift_engine_install(void)
{
	machine_lift = lift_engine;
	lift_engine_all = true;
}
