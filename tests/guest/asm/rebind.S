/*
 * One address that shows two frames with the same code by turns, so that a unit of a cache is wanted at both; and what
 * else lies in those frames is being executed meanwhile: the caller of whoever wants it at the other frame returns to
 * code that has been written to since.
 */
#include "guest.inc"

#define ROUNDS 40
#define RWX (P_ + W_)
#define AT(label) page + (label - frame)

	.text
	.globl test_main
test_main:
	COPY page, frame, frame_end
	COPY "page + 4096", frame, frame_end
	mov r12d, ROUNDS
round:
	.macro show n
	mov qword ptr [window_pt], offset page + (\n) * 4096 + RWX
	invlpg [WINDOW]
	.endm
	/* --- the window's code runs at the first frame, then at the second for a caller whose caller lies in the first */
	mov [AT(patched) + 1], r12d
	show 0
	mov ebx, WINDOW
	HERE
	call rbx
	CHECK_EQ(rax, 7)
	lea r13d, [r12 + 1000]
	mov ebp, offset AT(outer)
	show 1
	HERE
	call rbp
	CHECK_EQ(rax, r13)
	HERE
	call rbp
	CHECK_EQ(rax, r13)

	/* --- by turns; at last one frame more often than the other */
	show 0
	mov ebx, WINDOW
	HERE
	call rbx
	CHECK_EQ(rax, 7)
	show 1
	HERE
	call rbx
	CHECK_EQ(rax, 7)
	test r12d, 3
	jz 1f
	show 0
	call rbx
	CHECK_EQ(rax, 7)
1:
	/* --- a unit that jumps straight into another, by turns: they are bound together */
	mov ebp, WINDOW + (pair - frame)
	.rept 3
	show 1
	HERE
	call rbp
	CHECK_EQ(rdx, 12)
	show 0
	HERE
	call rbp
	CHECK_EQ(rdx, 12)
	.endr
	/* --- the code of one frame changes, and is the same again */
	mov byte ptr [page + 1], 9
	show 0
	HERE
	call rbx
	CHECK_EQ(rax, 9)
	show 1
	call rbx
	CHECK_EQ(rax, 7)
	mov byte ptr [page + 1], 7
	show 0
	HERE
	call rbx
	CHECK_EQ(rax, 7)
	dec r12d
	jnz round
	ret

	.balign 4096
	/* called from the frame; runs what the window shows, then writes to its caller */
inner:
	call rbx
	mov [AT(patched) + 1], r13d
	ret

	/* position-independent: copied to both frames */
	.balign 4096
frame:
	mov eax, 7
	ret
	.balign 256
1:	add edx, 7
	ret
pair:
	mov edx, 5
	test edx, edx
	jnz 1b
	ud2
	.balign 256
outer:
	mov eax, offset inner
	call rax
patched:
	mov eax, 0
	ret
frame_end:
