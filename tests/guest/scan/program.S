/*
 * A position-independent program of which the static scan must find every unit, for nothing else tells the build step
 * of it: calls to another page, a loop, a pointer to code, a table of jumps, a function that a page's end cuts, the
 * page in which the file goes on with something else. ANSWER: what it prints, and what makes its bytes differ.
 */
	.intel_syntax noprefix
	.text
	.fill ANSWER - 1, 1, 0x90 /* in another one, every instruction has another offset */
	.globl _start
_start:
	xor ebx, ebx
	mov ecx, 1000
1:	add ebx, ecx
	dec ecx
	jnz 1b
	cmp ebx, 500500
	jne wrong
	call far_away
	lea rax, [rip + by_pointer]
	call rax
	xor ebp, ebp
2:	lea rdx, [rip + table]
	movsxd rax, dword ptr [rdx + rbp * 4]
	add rax, rdx
	jmp rax
case_0:
	inc ebx
	jmp 3f
case_1:
	add ebx, 10
	jmp 3f
case_2:
	add ebx, 100
3:	inc ebp
	cmp ebp, 3
	jb 2b
	cmp ebx, 500500 + 1000 + 10000 + 111
	jne wrong
	lea rsi, [rip + right_text]
	.att_syntax /* clang's other syntax has no differences of symbols */
	mov $(right_end - right_text), %edx
	.intel_syntax noprefix
	jmp print
wrong:	lea rsi, [rip + wrong_text]
	.att_syntax
	mov $(wrong_end - wrong_text), %edx
	.intel_syntax noprefix
print:	mov edi, 1
	mov eax, edi
	syscall
	xor edi, edi
	mov eax, 60
	syscall
	hlt

	.type by_pointer, @function
by_pointer:
	add ebx, 10000
	ret

	/* the instruction in the middle lies in two pages */
	.balign 4096
	.skip 4096 - 9, 0xcc
	.type far_away, @function
far_away:
	.fill ANSWER - 1, 1, 0x90
	push rbx
	inc dword ptr [rsp]
	add dword ptr [rsp], 999
	pop rbx
	ret

	.section .rodata
	.balign 4
table:	.long case_0 - table, case_1 - table, case_2 - table
right_text:
	.ascii "PROGRAM "
	.byte '0' + ANSWER
	.ascii " right\n"
right_end:
wrong_text:
	.ascii "PROGRAM wrong\n"
wrong_end:
	.section .note.GNU-stack, "", @progbits
