/* Loops that the build step lifts or does not, one for each reason; also right when run. */
#include "guest.inc"

#define CPUIDS 30000

	.text
	.globl test_main
test_main:
	/* --- lifted: many accesses for each time that it is entered */
	mov rdi, 0x3000000
	mov ecx, 40000
	xor eax, eax
	nop
sum:	add rax, [rdi]
	mov [rdi], rcx
	add rdi, 8
	dec rcx
	jnz sum
	CHECK_EQ(rax, 0)

	/* --- executed too rarely */
	mov ecx, 100
	xor eax, eax
	nop
rare:	add eax, ecx
	dec ecx
	jnz rare
	CHECK_EQ(rax, 5050)

	/* --- no accesses at all */
	mov ecx, 50000
	xor eax, eax
	nop
none:	add eax, 2
	dec ecx
	jnz none
	CHECK_EQ(rax, 100000)

	/* --- entered where its unit begins, and left to somewhere else: how often, the unit does not say */
	mov esi, 3000
again:	mov ecx, 10
	mov rdi, 0x3000000
	call short_loop
	dec esi
	jnz again

	/* --- an instruction that the lifter does not know, and the runtime executes */
	mov esi, CPUIDS
	nop
	nop
ids:	mov eax, 1
	cpuid
	dec esi
	jnz ids
	ret

	.balign 64
short_loop:
	add rax, [rdi]
	add rdi, 8
	dec ecx
	jz away
	jmp short_loop
	.skip 128
away:	ret
