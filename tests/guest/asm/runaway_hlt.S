/* HLT with interrupts off never ends, but by --timeout (status 4). */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	cli
	hlt
	FAIL
