/* Page faults with every error code bit, permissions at every level, SMEP, SMAP, WP, NX, accessed and dirty bits. */
#include "guest.inc"

#define PRESENT 1
#define WRITE 2
#define USERMODE 4
#define RESERVED 8
#define FETCH 16

	.text
	/* the entry of window page n: frame page+k, flags */
	.macro MAP n, k, flags
	mov qword ptr [window_pt + (\n) * 8], offset page + (\k) * 4096 + (\flags)
	.endm
	.macro MAP_NX n, k, flags
	MAP \n, \k, \flags
	bts qword ptr [window_pt + (\n) * 8], 63
	.endm
#define EXPECT_PF(error, address) EXPECT(VEC_PF, error); EXPECT_CR2(address)
/* The flags, without address, of a window entry */
#define CHECK_BITS(n, bits) check_bits n, bits, __LINE__
	.macro check_bits n, bits, line
	push rax
	mov eax, [window_pt + (\n) * 8]
	and eax, 0xfff
	cmp eax, \bits
	je 78f
	mov dword ptr [line], \line
	call fail
78:	pop rax
	.endm

	.globl test_main
test_main:
	/* --- not present, in ring 0 */
	FAULT
1:	mov rax, [W(0) + 0x123]
	EXPECT_PF(0, W(0) + 0x123)
	EXPECT_RIP(1b)
	FAULT
	mov [W(0) + 0x456], rax
	EXPECT_PF(WRITE, W(0) + 0x456)
	FAULT
	inc qword ptr [W(0) + 0x458]
	EXPECT_PF(WRITE, W(0) + 0x458)
	mov eax, W(0)
	FAULT
	jmp rax
	EXPECT_PF(FETCH, W(0))
	EXPECT_RIP(W(0))
	mov rbx, rsp
	FAULT
	call rax
	EXPECT_PF(FETCH, W(0))
	lea rax, [rbx - 8]
	CHECK_EQ(SEEN(RSP), rax)
	mov rsp, rbx
	mov rbx, W(0) + 0x777
	FAULT
	movzx eax, byte ptr [rbx]
	EXPECT_PF(0, W(0) + 0x777)
	FAULT
	push qword ptr [rbx]
	EXPECT_PF(0, W(0) + 0x777)
	FAULT
	lock xadd [rbx], rcx
	EXPECT_PF(WRITE, W(0) + 0x777)
	FAULT
	movups xmm0, [rbx]
	EXPECT_PF(0, W(0) + 0x777)
	FAULT
	jmp [rbx]
	EXPECT_PF(0, W(0) + 0x777)
	FAULT
	lgdt [rbx]
	EXPECT_PF(0, W(0) + 0x777)
	mov edi, W(0) + 0x10
	mov ecx, 5
	FAULT
	rep stosb
	EXPECT_PF(WRITE, W(0) + 0x10)
	CHECK_EQ(SEEN(RCX), 5)

	/* --- reads, writes and what they leave in the entry */
	MAP 0, 0, P_
	HERE
	mov rax, [W(0)]
	CHECK_BITS(0, P_ + A_)
	FAULT
	mov [W(0) + 8], rax
	EXPECT_PF(PRESENT + WRITE, W(0) + 8)
	CHECK_BITS(0, P_ + A_)
	FAULT
	cmpxchg [W(0) + 16], rcx
	EXPECT_PF(PRESENT + WRITE, W(0) + 16)
	CHECK_BITS(0, P_ + A_)
	/* more rights need no flush */
	MAP 0, 0, P_ + W_
	HERE
	mov rax, [W(0)]
	mov [W(0) + 8], rax
	CHECK_EQ(rax, 0)
	cmp dword ptr [window_pt], offset page + P_ + W_ + D_
	jae 1f
	FAIL
1:	MAP 1, 1, P_ + W_
	mov [W(1)], rax
	CHECK_BITS(1, P_ + W_ + A_ + D_)
	MAP 2, 2, P_ + W_
	mov rax, [W(2)]
	CHECK_BITS(2, P_ + W_ + A_)
	mov [W(2)], rax /* the read has filled the TLB: D must come all the same */
	CHECK_BITS(2, P_ + W_ + A_ + D_)
	/* D cleared and flushed: comes again */
	and dword ptr [window_pt + 16], ~D_
	invlpg [W(2)]
	mov rax, [W(2)]
	CHECK_BITS(2, P_ + W_ + A_)
	mov [W(2)], rax
	CHECK_BITS(2, P_ + W_ + A_ + D_)
	/* a fetch sets A only */
	mov byte ptr [page + 3 * 4096], 0xc3
	MAP 3, 3, P_ + W_
	mov eax, W(3)
	HERE
	call rax
	CHECK_BITS(3, P_ + W_ + A_)
	/* upper levels have A */
	test byte ptr [window_pd], A_
	jnz 1f
	FAIL
1:	test byte ptr [pdpt + 8], A_
	jnz 1f
	FAIL
1:	test byte ptr [pml4], A_
	jnz 1f
	FAIL
1:
	/* --- WP: with it off ring 0 writes everywhere */
	MAP 4, 4, P_
	FAULT
	mov byte ptr [W(4)], 1
	EXPECT_PF(PRESENT + WRITE, W(4))
	CR_CLEAR cr0, CR0_WP
	HERE
	mov byte ptr [W(4)], 1
	CHECK_BITS(4, P_ + A_ + D_)
	CR_SET cr0, CR0_WP
	FAULT
	mov byte ptr [W(4)], 1
	EXPECT_PF(PRESENT + WRITE, W(4))

	/* --- NX */
	MAP_NX 5, 3, P_ + W_
	mov eax, W(5)
	FAULT
	call rax
	EXPECT_PF(PRESENT + FETCH, W(5))
	HERE
	movzx ecx, byte ptr [rax]
	CHECK_EQ(rcx, 0xc3)
	/* the data access must not have made it executable, nor a fetch elsewhere */
	FAULT
	call rax
	EXPECT_PF(PRESENT + FETCH, W(5))
	bts qword ptr [window_pd], 63 /* at an upper level */
	RELOAD_CR3
	mov eax, W(3)
	FAULT
	call rax
	EXPECT_PF(PRESENT + FETCH, W(3))
	btr qword ptr [window_pd], 63
	RELOAD_CR3
	HERE
	call rax

	/* --- reserved bits */
	MAP 6, 6, P_ + W_
	bts qword ptr [window_pt + 6 * 8], 51
	FAULT
	mov rax, [W(6)]
	EXPECT_PF(PRESENT + RESERVED, W(6))
	FAULT
	mov [W(6)], rax
	EXPECT_PF(PRESENT + RESERVED + WRITE, W(6))
	mov eax, W(6)
	FAULT
	jmp rax
	EXPECT_PF(PRESENT + RESERVED + FETCH, W(6))
	btr qword ptr [window_pt + 6 * 8], 51
	HERE
	mov rax, [W(6)]
	/* bit 13 of a large page's entry */
	mov qword ptr [window_pd + 8], 0x2000 + P_ + W_ + PS_
	FAULT
	mov rax, [WINDOW + 0x200000]
	EXPECT_PF(PRESENT + RESERVED, WINDOW + 0x200000)
	mov qword ptr [window_pd + 8], 0
	/* PS in the top level */
	mov qword ptr [pml4 + 8], offset pdpt + P_ + W_ + PS_
	movabs rbx, 0x8000000000
	FAULT
	mov rax, [rbx]
	EXPECT_PF(PRESENT + RESERVED, 0x8000000000)
	mov qword ptr [pml4 + 8], 0
	/* NX is reserved while EFER.NXE is off, and fetches are not told */
	mov ecx, MSR_EFER
	rdmsr
	and eax, ~0x800
	wrmsr
	FAULT
	mov rcx, [W(5)]
	EXPECT_PF(PRESENT + RESERVED, W(5))
	mov edx, W(7)
	FAULT
	jmp rdx
	EXPECT_PF(0, W(7))
	CR_SET cr4, CR4_SMEP
	FAULT
	jmp rdx
	EXPECT_PF(FETCH, W(7))
	CR_CLEAR cr4, CR4_SMEP
	mov ecx, MSR_EFER
	rdmsr
	or eax, 0x800
	wrmsr
	HERE
	mov rcx, [W(5)]

	/* --- ring 3 */
	MAP 8, 8, P_ + U_
	MAP 9, 9, P_ + W_ + U_
	MAP 10, 10, P_ + W_
	mov byte ptr [page + 8 * 4096], 0xc3
	mov byte ptr [page + 9 * 4096], 0xc3
	mov byte ptr [page + 10 * 4096], 0xc3
	mov ebx, W(8)
	USER user_read
	EXPECT(VEC_DONE, ANY)
	USER user_write
	EXPECT_PF(PRESENT + WRITE + USERMODE, W(8))
	EXPECT_RIP(user_write)
	mov ebx, W(9)
	USER user_read
	EXPECT(VEC_DONE, ANY)
	USER user_write
	EXPECT(VEC_DONE, ANY)
	mov byte ptr [page + 9 * 4096], 0xc3
	USER user_call
	EXPECT(VEC_DONE, ANY)
	mov ebx, W(10)
	USER user_read
	EXPECT_PF(PRESENT + USERMODE, W(10))
	EXPECT_RIP(user_read)
	USER user_write
	EXPECT_PF(PRESENT + WRITE + USERMODE, W(10))
	USER user_rmw
	EXPECT_PF(PRESENT + WRITE + USERMODE, W(10))
	USER user_call
	EXPECT_PF(PRESENT + FETCH + USERMODE, W(10))
	mov ebx, W(11)
	USER user_read
	EXPECT_PF(USERMODE, W(11))
	USER user_write
	EXPECT_PF(WRITE + USERMODE, W(11))
	USER user_call
	EXPECT_PF(FETCH + USERMODE, W(11))
	MAP_NX 9, 9, P_ + W_ + U_
	invlpg [W(9)]
	mov ebx, W(9)
	USER user_call
	EXPECT_PF(PRESENT + FETCH + USERMODE, W(9))
	btr qword ptr [window_pt + 9 * 8], 63
	/* U/S of an upper level counts as well */
	and dword ptr [window_pd], ~U_
	RELOAD_CR3
	USER user_read
	EXPECT_PF(PRESENT + USERMODE, W(9))
	or dword ptr [window_pd], U_
	and dword ptr [window_pd], ~W_
	RELOAD_CR3
	USER user_read
	EXPECT(VEC_DONE, ANY)
	USER user_write
	EXPECT_PF(PRESENT + WRITE + USERMODE, W(9))
	FAULT
	mov byte ptr [W(9)], 1
	EXPECT_PF(PRESENT + WRITE, W(9))
	or dword ptr [window_pd], W_
	RELOAD_CR3
	/* privileged and IOPL-sensitive instructions */
	USER user_cli
	EXPECT(VEC_GP, 0)
	USER user_hlt
	EXPECT(VEC_GP, 0)
	USER user_out
	EXPECT(VEC_GP, 0)
	USER user_rdmsr
	EXPECT(VEC_GP, 0)
	USER user_cr3
	EXPECT(VEC_GP, 0)
	USER user_int
	EXPECT(VEC_GP, 0x81 * 8 + 2)
	USER user_stac
	EXPECT(VEC_UD, ANY)
	USER user_noncanonical
	EXPECT(VEC_GP, 0)
	USER user_int3
	EXPECT(VEC_GP, VEC_BP * 8 + 2)
	USER user_popf
	EXPECT(VEC_DONE, ANY)
	test SEEN(FLAGS), FLAG_IF
	jz 1f
	FAIL
1:	test SEEN(FLAGS), 0x3000
	jz 1f
	FAIL
1:
	/* --- SMEP */
	mov eax, W(9)
	HERE
	mov byte ptr [page + 9 * 4096], 0xc3
	call rax
	CR_SET cr4, CR4_SMEP
	FAULT
	call rax
	EXPECT_PF(PRESENT + FETCH, W(9))
	HERE
	movzx ecx, byte ptr [rax]
	CR_CLEAR cr4, CR4_SMEP
	call rax

	/* --- SMAP: explicit accesses, AC, popf, and implicit ones */
	mov eax, W(9)
	HERE
	mov rcx, [rax]
	CR_SET cr4, CR4_SMAP
	FAULT
	mov rcx, [rax]
	EXPECT_PF(PRESENT, W(9))
	FAULT
	mov [rax + 8], rcx
	EXPECT_PF(PRESENT + WRITE, W(9) + 8)
	stac
	HERE
	mov rcx, [rax]
	mov [rax + 8], rcx
	clac
	FAULT
	mov rcx, [rax]
	EXPECT_PF(PRESENT, W(9))
	FAULT
	mov [rax + 8], rcx
	EXPECT_PF(PRESENT + WRITE, W(9) + 8)
	pushfq
	or qword ptr [rsp], FLAG_AC
	popfq
	HERE
	mov rcx, [rax]
	pushfq
	and qword ptr [rsp], ~FLAG_AC
	popfq
	FAULT
	mov rcx, [rax]
	EXPECT_PF(PRESENT, W(9))
	/* rep movs from and to a user page */
	mov esi, eax
	mov edi, offset page
	mov ecx, 16
	FAULT
	rep movsb
	EXPECT_PF(PRESENT, W(9))
	stac
	mov esi, eax
	mov edi, offset page
	mov ecx, 16
	HERE
	rep movsb
	clac
	/* a fetch is not held back by SMAP */
	HERE
	call rax
	/* AC=1 does not help implicit accesses: the descriptor of DS in a user page, the handler's elsewhere */
	stac
	mov edi, W(9) - 0x18
	MAP 8, 7, P_ + W_
	invlpg [W(8)]
	mov rsi, offset gdt
	mov ecx, 0x50
	rep movsb
	sub rsp, 16
	mov word ptr [rsp], 0x4f
	mov qword ptr [rsp + 2], W(9) - 0x18
	lgdt [rsp]
	mov ecx, KERNEL_SS
	HANDLER VEC_PF, restore_gdt /* its IRET needs SS again */
	FAULT
	mov ds, ecx
	EXPECT_PF(PRESENT, W(9))
	NO_HANDLER VEC_PF
	add rsp, 16
	stac
	HERE
	mov rcx, [rax]
	clac
	/* user code is not concerned */
	mov ebx, W(9)
	USER user_read
	EXPECT(VEC_DONE, ANY)
	/* ring 3 with AC set, then ring 0 again: the handler has AC as it was */
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER user_read
	EXPECT(VEC_DONE, ANY)
	mov qword ptr [user_flags], 2
	FAULT
	mov rcx, [rbx]
	EXPECT_PF(PRESENT, W(9))
	CR_CLEAR cr4, CR4_SMAP
	HERE
	mov rcx, [rbx]

	/* --- accesses across two pages: nothing is written if the second faults, and its address is told */
	MAP 12, 12, P_ + W_
	MAP 13, 13, P_
	mov rax, -1
	FAULT
	mov [W(13) - 4], rax
	EXPECT_PF(PRESENT + WRITE, W(13))
	cmp dword ptr [page + 13 * 4096 - 4], 0
	je 1f
	FAIL
1:	FAULT
	mov rax, [W(14) - 1]
	EXPECT_PF(0, W(14))
	FAULT
	mov rax, [W(12) - 1]
	EXPECT_PF(0, W(12) - 1)
	MAP 11, 11, P_ + W_
	MAP 13, 13, P_ + W_
	movabs rax, 0x1122334455667788
	HERE
	mov [W(13) - 3], rax
	mov rcx, [W(13) - 3]
	CHECK_EQ(rcx, rax)
	mov ecx, [page + 13 * 4096 - 3]
	and ecx, 0xffffff
	CHECK_EQ(rcx, 0x667788)
	/* neighbours in the window that are not neighbours in memory */
	MAP 12, 3, P_ + W_
	MAP 13, 1, P_ + W_
	invlpg [W(12)]
	invlpg [W(13)]
	HERE
	mov [W(13) - 3], rax
	mov rcx, [page + 4096]
	shl rcx, 24
	mov rdx, rax
	shr rdx, 24
	shl rdx, 24
	CHECK_EQ(rcx, rdx)
	lock add qword ptr [W(13) - 3], 1
	mov rcx, [W(13) - 3]
	inc rax
	CHECK_EQ(rcx, rax)

	/* --- large pages */
	mov qword ptr [window_pd + 8], 0x1400000 + P_ + W_ + PS_
	HERE
	mov rax, [WINDOW + 0x2fff00]
	cmp dword ptr [window_pd + 8], 0x1400000 + P_ + W_ + PS_ + A_
	je 1f
	FAIL
1:	mov dword ptr [WINDOW + 0x2fff00], 0x12345
	cmp dword ptr [window_pd + 8], 0x1400000 + P_ + W_ + PS_ + A_ + D_
	je 1f
	FAIL
1:	cmp dword ptr [0x14fff00], 0x12345
	je 1f
	FAIL
1:	mov qword ptr [window_pd + 8], 0x1600000 + P_ + PS_
	invlpg [WINDOW + 0x200000] /* any address of it will do */
	HERE
	cmp dword ptr [WINDOW + 0x2fff00], 0
	je 1f
	FAIL
1:	FAULT
	mov [WINDOW + 0x3fffff], al
	EXPECT_PF(PRESENT + WRITE, WINDOW + 0x3fffff)
	/* a page of 1 GiB, at 2 GiB */
	mov qword ptr [pdpt + 16], P_ + W_ + PS_
	mov eax, 0x80000000 + 0x14fff00
	HERE
	mov ecx, [rax]
	CHECK_EQ(rcx, 0x12345)
	cmp dword ptr [pdpt + 16], P_ + W_ + PS_ + A_
	je 1f
	FAIL
1:	inc dword ptr [rax]
	cmp dword ptr [pdpt + 16], P_ + W_ + PS_ + A_ + D_
	je 1f
	FAIL
1:	cmp dword ptr [0x14fff00], 0x12346
	je 1f
	FAIL
1:	mov qword ptr [pdpt + 16], 0
	mov edx, 0x80000000
	invlpg [rdx]
	FAULT
	mov ecx, [rax]
	EXPECT_PF(0, 0x80000000 + 0x14fff00)
	ret

restore_gdt:
	lgdt [gdt_pointer]
	jmp record

	.section .user
user_read:
	mov rax, [rbx]
	int VEC_DONE
user_write:
	mov [rbx], rax
	int VEC_DONE
user_rmw:
	lock inc dword ptr [rbx]
	int VEC_DONE
user_call:
	call rbx
	int VEC_DONE
user_cli:
	cli
	int VEC_DONE
user_hlt:
	hlt
	int VEC_DONE
user_out:
	out 0x80, al
	int VEC_DONE
user_rdmsr:
	rdmsr
	int VEC_DONE
user_cr3:
	mov rax, cr3
	int VEC_DONE
user_int:
	int 0x81
user_stac:
	stac
	int VEC_DONE
user_noncanonical:
	movabs rcx, 0x8000000000000000
	mov rax, [rcx]
	int VEC_DONE
user_int3:
	int3
	int VEC_DONE
user_popf:
	pushfq
	or qword ptr [rsp], FLAG_IF + 0x3000
	popfq
	int VEC_DONE
