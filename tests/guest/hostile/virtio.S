/*
 * A kernel whose virtio driver does what none may: the device says that it needs a reset, nothing of the guest's memory is
 * touched but what a device may, and after a reset it works again. Registers written at the wrong time do no harm.
 */
#include "guest.inc"
#include "virtio.inc"

#define NEEDS_RESET 0x40
#define RAM_END 0x4000000
#define LAPIC 0xfee00000
#define BAR0 0x10
#define ROUNDS 3

	.text
	.globl test_main
test_main:
	call find_device
	call start_device
	mov edi, BLK_OUT
	mov esi, 1
	mov rdx, offset good_sector
	call transfer
	mov r12d, ROUNDS
1:	call bad_addresses
	call bad_chains
	call bad_indices
	call bad_queues
	call live_registers
	call moving_bar
	call early_reset
	dec r12d
	jnz 1b
	ret

kick:
	mov rax, [notify]
	mov word ptr [rax], 0
	ret

/* The device is broken by what is available now, has pushed nothing, and is good again after a reset. */
expect_broken:
	mov r11d, [used]
	call kick
	movzx eax, byte ptr [rbx + STATUS]
	and eax, NEEDS_RESET
	CHECK_EQ(rax, NEEDS_RESET)
	mov eax, [used]
	CHECK_EQ(rax, r11)
	call kick
	mov eax, [used]
	CHECK_EQ(rax, r11)
	mov byte ptr [rbx + STATUS], 0
	movzx eax, byte ptr [rbx + STATUS]
	CHECK_EQ(rax, 0)
/* A sector is read and is the one that was written at the beginning. */
expect_good:
	call start_device
	mov edi, BLK_IN
	mov esi, 1
	mov rdx, offset buffer
	call transfer
	mov rsi, offset buffer
	mov rdi, offset good_sector
	mov ecx, SECTOR / 8
	repe cmpsq
	je 1f
	FAIL
1:	mov rdi, offset buffer
	mov ecx, SECTOR / 8
	xor eax, eax
	rep stosq
	ret

	.macro READ
	mov edi, BLK_IN
	mov esi, 1
	mov rdx, offset buffer
	call prepare
	.endm

/* --- descriptors of what is not memory ----------------------------------------------------------------------------- */

bad_addresses:
	mov r13, offset addresses
1:	READ
	mov rax, [r13]
	mov [descriptors + 16], rax
	mov eax, [r13 + 8]
	mov [descriptors + 16 + 8], eax
	call expect_broken
	READ
	mov dword ptr [descriptors + 12], DESC_INDIRECT
	mov rax, [r13]
	mov [descriptors], rax
	mov dword ptr [descriptors + 8], 64
	call expect_broken
	add r13, 16
	cmp r13, offset addresses_end
	jb 1b
	ret

/* --- chains without end, and in the wrong order -------------------------------------------------------------------- */

bad_chains:
	READ
	mov word ptr [descriptors + 14], 0
	call expect_broken
	READ
	mov dword ptr [descriptors + 16 + 12], DESC_NEXT + DESC_WRITE /* next: 0, to be read */
	call expect_broken
	READ
	mov word ptr [descriptors + 14], ENTRIES
	call expect_broken
	READ
	mov word ptr [descriptors + 14], -1
	call expect_broken
	/* a table in a table, and one that names itself */
	READ
	mov rax, offset table
	mov [descriptors], rax
	mov dword ptr [descriptors + 8], 32
	mov dword ptr [descriptors + 12], DESC_INDIRECT
	mov [table], rax
	mov dword ptr [table + 8], 32
	mov dword ptr [table + 12], DESC_INDIRECT
	call expect_broken
	READ
	mov rax, offset table
	mov [descriptors], rax
	mov dword ptr [descriptors + 8], 32
	mov dword ptr [descriptors + 12], DESC_INDIRECT
	mov dword ptr [table + 12], DESC_NEXT
	call expect_broken
	READ
	mov dword ptr [descriptors + 8], 8 /* half a table entry */
	mov dword ptr [descriptors + 12], DESC_INDIRECT
	call expect_broken
	/* no header, no status */
	READ
	mov dword ptr [descriptors + 8], 15
	mov word ptr [descriptors + 14], 2
	call expect_broken
	READ
	mov dword ptr [descriptors + 12], 0
	call expect_broken
	ret

/* --- indices that jump --------------------------------------------------------------------------------------------- */

bad_indices:
	READ
	mov word ptr [available + 2], ENTRIES + 2 /* one has been taken */
	call expect_broken
	READ
	mov word ptr [available + 2], -1
	call expect_broken
	READ
	mov word ptr [available + 4 + 2], ENTRIES
	call expect_broken
	READ
	mov word ptr [available + 4 + 2], -1
	call expect_broken
	ret

/* --- queues that cannot be ----------------------------------------------------------------------------------------- */

	/* Enables the queue with `value` in a field; the device does not start. */
	.macro BAD_QUEUE offset, value, size=word
	mov byte ptr [rbx + STATUS], 0
	mov byte ptr [rbx + STATUS], 3
	mov word ptr [rbx + 22], 0
	mov word ptr [rbx + QUEUE_SIZE], ENTRIES
	mov dword ptr [rbx + QUEUE_ADDRESSES], offset descriptors
	mov dword ptr [rbx + QUEUE_ADDRESSES + 8], offset available
	mov dword ptr [rbx + QUEUE_ADDRESSES + 16], offset used
	mov \size ptr [rbx + \offset], \value
	mov word ptr [rbx + QUEUE_ENABLE], 1
	movzx eax, byte ptr [rbx + STATUS]
	CHECK_EQ(rax, NEEDS_RESET + 3)
	mov byte ptr [rbx + STATUS], 15
	call kick
	.endm

bad_queues:
	BAD_QUEUE QUEUE_SIZE, 0
	BAD_QUEUE QUEUE_SIZE, 5
	BAD_QUEUE QUEUE_SIZE, -1
	BAD_QUEUE QUEUE_ADDRESSES, (RAM_END - 16), dword
	BAD_QUEUE QUEUE_ADDRESSES, 1, dword
	BAD_QUEUE (QUEUE_ADDRESSES + 4), -1, dword
	BAD_QUEUE (QUEUE_ADDRESSES + 8), LAPIC, dword
	BAD_QUEUE (QUEUE_ADDRESSES + 20), 0x80000000, dword
	jmp expect_good

/* --- registers that are written at the wrong time ------------------------------------------------------------------ */

live_registers:
	call start_device
	mov word ptr [rbx + QUEUE_SIZE], -1
	mov qword ptr [rbx + QUEUE_ADDRESSES], -1
	mov qword ptr [rbx + QUEUE_ADDRESSES + 8], -1
	mov qword ptr [rbx + QUEUE_ADDRESSES + 16], -1
	mov word ptr [rbx + QUEUE_ENABLE], 0
	mov word ptr [rbx + QUEUE_ENABLE], 1
	mov dword ptr [rbx + 12], -1
	mov word ptr [rbx + 22], -1
	mov qword ptr [rbx + QUEUE_ADDRESSES], 0
	mov word ptr [rbx + QUEUE_ENABLE], 1
	mov byte ptr [rbx + STATUS], 1
	mov edi, BLK_IN
	mov esi, 1
	mov rdx, offset buffer
	call transfer
	jmp expect_good

/* --- a BAR that goes where it should not --------------------------------------------------------------------------- */

/* eax: register, ecx: value */
config_write:
	or eax, r15d
	mov edx, PORT_ADDRESS
	out dx, eax
	mov eax, ecx
	mov edx, PORT_DATA
	out dx, eax
	ret

moving_bar:
	mov eax, LAPIC + 0x30
	mov r8d, [rax]
	mov r13, offset places
1:	mov eax, BAR0
	mov ecx, [r13]
	call config_write
	call kick
	mov eax, LAPIC + 0x30
	mov r9d, [rax]
	CHECK_EQ(r8, r9)
	add r13, 4
	cmp r13, offset places_end
	jb 1b
	/* to another place, and back */
	mov eax, BAR0
	mov ecx, 0xe0000000
	call config_write
	mov r10, r14
	mov r14d, 0xe0000000
	call expect_good
	mov eax, BAR0
	mov rcx, r10
	call config_write
	mov r14, r10
	jmp expect_good

/* --- a reset while something is under way -------------------------------------------------------------------------- */

early_reset:
	call start_device
	READ
	call kick
	mov byte ptr [rbx + STATUS], 0
	mov qword ptr [buffer], 0
	call expect_good
	/* no request of before the reset is answered after it */
	mov eax, [used]
	shr eax, 16
	CHECK_EQ(rax, 1)
	ret

	.data
	.balign 8
addresses: /* and lengths */
	.quad RAM_END, SECTOR
	.quad RAM_END - 1, SECTOR
	.quad RAM_END - SECTOR, 0xffffffff
	.quad 0xc0000000, SECTOR
	.quad LAPIC, SECTOR
	.quad 0x100000000, SECTOR
	.quad 0x8000000000000000, SECTOR
	.quad -1, 2
	.quad -SECTOR, SECTOR
	.quad -16, 0xffffffff
addresses_end:
places:
	.long 0, 0x200000, RAM_END, 0xfeb00000, 0xfec00000, LAPIC, 0xfffff000, -1
places_end:
	.balign 8
good_sector:
	.set n, 0
	.rept SECTOR
	.byte n * 13 & 0xff
	.set n, n + 1
	.endr

	.bss
	.balign 512
buffer: .skip SECTOR
table: .skip 64
