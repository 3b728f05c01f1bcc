/*
 * Code that comes from a disk: what a virtio block device reads into a page is what is executed there next, also if the
 * page has been executed before and if it is the one that asks. Nor may a kick change vector registers.
 */
#include "guest.inc"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA 0xcfc
#define VIRTIO_BLOCK 0x10421af4
#define CAP_VENDOR 9

#define CFG_COMMON 1
#define CFG_NOTIFY 2

#define STATUS 20
#define QUEUE_SIZE 24
#define QUEUE_ENABLE 28
#define QUEUE_ADDRESSES 32

#define ENTRIES 8
#define DESC_NEXT 1
#define DESC_WRITE 2
#define BLK_IN 0
#define BLK_OUT 1
#define SECTOR 512

#define ROUNDS 50

	.text
	.globl test_main
test_main:
	call find_device
	call start_device
	call other_page
	call own_page
	ret

/* --- PCI ----------------------------------------------------------------------------------------------------------- */

/* eax: register (of the device in r15d) → its value */
config_read:
	push rdx
	or eax, r15d
	mov edx, PORT_ADDRESS
	out dx, eax
	mov edx, PORT_DATA
	in eax, dx
	pop rdx
	ret

/* → r15: the device as in CF8; r14: BAR 0 */
find_device:
	mov r15d, 0x80000000
1:	xor eax, eax
	call config_read
	cmp eax, VIRTIO_BLOCK
	je 2f
	add r15d, 0x800
	cmp r15d, 0x80010000
	jb 1b
	FAIL
2:	mov eax, 0x10
	call config_read
	and eax, -16
	mov r14d, eax
	mov eax, 4
	call config_read
	or eax, 6 /* memory, bus master */
	mov edx, PORT_DATA
	out dx, eax
	ret

/* edi: type → rax: address of the structure */
find_structure:
	push rcx
	mov eax, 0x34
	call config_read
1:	and eax, 0xfc
	jz 9f
	mov ecx, eax
	call config_read
	mov edx, eax
	shr edx, 24
	cmp al, CAP_VENDOR
	jne 2f
	cmp edx, edi
	je 3f
2:	shr eax, 8
	jmp 1b
3:	lea eax, [ecx + 8]
	call config_read
	add rax, r14
	pop rcx
	ret
9:	FAIL

/* --- the device ---------------------------------------------------------------------------------------------------- */

start_device:
	mov edi, CFG_NOTIFY
	call find_structure
	mov [notify], rax
	mov edi, CFG_COMMON
	call find_structure
	mov rbx, rax
	mov byte ptr [rbx + STATUS], 0
	mov byte ptr [rbx + STATUS], 1
	mov byte ptr [rbx + STATUS], 3
	mov dword ptr [rbx + 8], 1
	mov dword ptr [rbx + 12], 1 /* VIRTIO_F_VERSION_1 */
	mov byte ptr [rbx + STATUS], 11
	movzx eax, byte ptr [rbx + STATUS]
	CHECK_EQ(rax, 11)
	mov word ptr [rbx + 22], 0
	mov word ptr [rbx + QUEUE_SIZE], ENTRIES
	mov rax, offset descriptors
	mov [rbx + QUEUE_ADDRESSES], rax
	mov rax, offset available
	mov [rbx + QUEUE_ADDRESSES + 8], rax
	mov rax, offset used
	mov [rbx + QUEUE_ADDRESSES + 16], rax
	mov word ptr [rbx + QUEUE_ENABLE], 1
	mov byte ptr [rbx + STATUS], 15
	movzx eax, byte ptr [rbx + STATUS]
	CHECK_EQ(rax, 15)
	ret

	.macro DESCRIPTOR n, address, length, flags
	mov rax, \address
	mov [descriptors + 16 * \n], rax
	mov dword ptr [descriptors + 16 * \n + 8], \length
	mov dword ptr [descriptors + 16 * \n + 12], \flags + ((\n + 1) << 16)
	.endm

/* Makes a request of one sector available: edi type, rsi sector, rdx buffer. The caller kicks. */
prepare:
	mov [header], edi
	mov [header + 8], rsi
	mov byte ptr [status], 0xff
	DESCRIPTOR 0, "offset header", 16, DESC_NEXT
	DESCRIPTOR 1, rdx, SECTOR, DESC_NEXT
	cmp edi, BLK_IN
	jne 1f
	or dword ptr [descriptors + 16 + 12], DESC_WRITE
1:	DESCRIPTOR 2, "offset status", 1, DESC_WRITE
	movzx eax, word ptr [available + 2]
	and eax, ENTRIES - 1
	mov word ptr [available + 4 + rax * 2], 0
	inc word ptr [available + 2]
	ret

	.macro WAIT
77:	pause
	mov ax, [available + 2]
	cmp ax, [used + 2]
	jne 77b
	.endm

transfer:
	call prepare
	mov rax, [notify]
	mov word ptr [rax], 0
	WAIT
	movzx eax, byte ptr [status]
	CHECK_EQ(rax, 0)
	ret

/* --- code in another page ------------------------------------------------------------------------------------------ */

/* Sectors 0 and 1 hold functions that return different numbers; they are read over each other. */
other_page:
	mov edi, BLK_OUT
	xor esi, esi
	mov rdx, offset first_code
	call transfer
	mov edi, BLK_OUT
	mov esi, 1
	mov rdx, offset second_code
	call transfer
	mov r12d, ROUNDS
1:	mov edi, BLK_IN
	mov esi, r12d
	and esi, 1
	mov rdx, offset code_page + 0x100 /* not all of the page is overwritten */
	call transfer
	call code_page
	mov ecx, r12d
	and ecx, 1
	lea ecx, [rcx * 2 + 0x5001]
	CHECK_EQ(rax, rcx)
	dec r12d
	jnz 1b
	ret

/* --- code in the page that is being executed ----------------------------------------------------------------------- */

own_page:
	mov r12d, ROUNDS
1:	/* sector 2 gets this page's code with another number in it */
	lea eax, [r12d + 0x70000]
	mov [own_number], eax
	mov edi, BLK_OUT
	mov esi, 2
	mov rdx, offset own_code
	call transfer
	mov dword ptr [own_number], 0xbad
	mov edi, BLK_IN
	mov esi, 2
	mov rdx, offset own_code
	call prepare
	mov ecx, 16
	mov rax, offset pattern
2:	inc byte ptr [rax]
	add rax, 16
	dec ecx
	jnz 2b
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps xmm\n, [pattern + 16 * \n]
	.endr
	call own_code
	lea ecx, [r12d + 0x70000]
	CHECK_EQ(rax, rcx)
	dec r12d
	jnz 1b
	ret

	.section .text.own, "ax"
	.balign 4096
own_code:
	mov rax, [notify]
	mov word ptr [rax], 0
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps [seen_pattern + 16 * \n], xmm\n
	.endr
	WAIT
	mov rsi, offset pattern
	mov rdi, offset seen_pattern
	mov ecx, 256 / 8
	repe cmpsq
	jne own_fail
	.byte 0xb8 /* mov eax, imm */
own_number:
	.long 0
	ret
own_fail:
	FAIL
	.org own_code + SECTOR /* an error if it is longer */
	.balign 4096

	.section .text.code, "ax"
code_page:
	call code_page + 0x100
	ret
	.balign 4096

	.data
	.balign 512
first_code:
	mov eax, 0x5001
	ret
	.balign 512
second_code:
	mov eax, 0x5003
	ret
	.balign 512
pattern:
	.set n, 0
	.rept 256
	.byte n * 7 & 0xff
	.set n, n + 1
	.endr

	.bss
	.balign 4096
descriptors: .skip 16 * ENTRIES
available: .skip 4 + 2 * ENTRIES + 2
	.balign 4
used: .skip 4 + 8 * ENTRIES + 2
	.balign 16
header: .skip 16
seen_pattern: .skip 256
notify: .skip 8
status: .skip 1
