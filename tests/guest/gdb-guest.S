/*
 * The guest of gdb-test.py: entered in 64-bit mode with the first 4 GiB mapped one to one (Linux boot protocol). It
 * counts, calls, spins until it is told to stop spinning, and ends by the debug-exit port.
 */
	.text
	.globl	_start, count, counted, spin, leave
_start:
	lea	stack_top(%rip), %rsp
	movabs	$0x1122334455667788, %rbx
	mov	%rbx, word(%rip)
	mov	%cr4, %rax
	or	$0x200, %rax			/* OSFXSR */
	mov	%rax, %cr4
	xor	%ecx, %ecx
loop:
	call	count
	cmp	$1000, %rcx
	jb	loop
counted:
	movq	%rcx, %xmm3
	mov	word(%rip), %rdx
spin:
	cmpb	$0, go(%rip)
	je	spin
leave:
	mov	$0x15, %al
	mov	$0xf4, %dx
	outb	%al, %dx
	hlt

/* On a page of its own, which has a breakpoint while the rest has none. */
	.balign	4096
count:
	inc	%rcx
	add	%rcx, sum(%rip)
	ret

	.data
	.globl	word, sum, go
	.balign	4096
word:	.quad	0
sum:	.quad	0
go:	.byte	0
	.bss
	.balign	4096
	.skip	4096
stack_top:
