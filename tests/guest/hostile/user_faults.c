/*
 * A user program that goes for kernel addresses, and whose code changes under its feet, run as init of a real kernel.
 * Each wrong step must bring the signal that it is owed, with address and error code; each call must run the code that
 * is mapped now. Prints "HOSTILE ok" or the first thing that is wrong, and powers off.
 */
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE   4096ul
#define ROUNDS 200

enum { ERROR_PRESENT = 1, ERROR_WRITE = 2, ERROR_USER = 4, ERROR_FETCH = 16 };
enum { TRAP_DE = 0, TRAP_UD = 6, TRAP_GP = 13, TRAP_PF = 14, TRAP_AC = 17 };

static sigjmp_buf back;
static volatile int seen_signal, seen_code;
static volatile uintptr_t seen_address, seen_rip;
static volatile unsigned long seen_trap, seen_error;

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			give_up(#condition, __LINE__);                                                                 \
	} while (0)

static void give_up(const char *what, int line)
{
	printf("HOSTILE wrong at line %d: %s; last signal %d code %d address %#lx rip %#lx trap %lu error %#lx\n", line,
	       what, seen_signal, seen_code, (unsigned long)seen_address, (unsigned long)seen_rip, seen_trap,
	       seen_error);
	fflush(stdout);
	_exit(1);
}

static void set_ac(int on);

static void on_signal(int number, siginfo_t *info, void *context)
{
	set_ac(0);

	const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	seen_signal = number;
	seen_code = info->si_code;
	seen_address = (uintptr_t)info->si_addr;
	seen_rip = (uintptr_t)regs[REG_RIP];
	seen_trap = (unsigned long)regs[REG_TRAPNO];
	seen_error = (unsigned long)regs[REG_ERR];
	siglongjmp(back, 1);
}

/* Runs the statement, which must raise a signal. */
#define FAULTS(statement)                                                                                              \
	do {                                                                                                           \
		seen_signal = 0;                                                                                       \
		if (sigsetjmp(back, 1) == 0) {                                                                         \
			statement;                                                                                     \
			give_up("no signal: " #statement, __LINE__);                                                   \
		}                                                                                                      \
	} while (0)

static void check_page_fault(uintptr_t address, unsigned long error, int code)
{
	CHECK(seen_signal == SIGSEGV);
	CHECK(seen_trap == TRAP_PF);
	CHECK(seen_address == address);
	CHECK(seen_error == error);
	CHECK(seen_code == code);
}

static void read_at(uintptr_t address)
{
	__asm__ volatile("movq (%0), %%rax" : : "r"(address) : "rax", "memory");
}

static void write_at(uintptr_t address)
{
	__asm__ volatile("movq %%rax, (%0)" : : "r"(address) : "memory");
}

static void jump_to(uintptr_t address)
{
	__asm__ volatile("jmp *%0" : : "r"(address) : "memory");
}

static void call_to(uintptr_t address)
{
	__asm__ volatile("call *%0" : : "r"(address) : "rax", "memory");
}

static void return_to(uintptr_t address)
{
	__asm__ volatile("push %0\n\tret" : : "r"(address) : "memory");
}

static void divide_by(uint32_t divisor)
{
	uint32_t low = 1, high = 0;

	__asm__ volatile("divl %2" : "+a"(low), "+d"(high) : "r"(divisor));
}

static void copy_from(uintptr_t address)
{
	static char buffer[64];
	void *to = buffer;
	size_t count = 64;

	__asm__ volatile("rep movsb" : "+S"(address), "+D"(to), "+c"(count) : : "memory");
}

/* The bits of the error code say whether the page is present: for kernel addresses that is the kernel's affair. */
static void check_kernel_address(uintptr_t address)
{
	FAULTS(read_at(address));
	seen_error &= ~(unsigned long)ERROR_PRESENT;
	CHECK(seen_signal == SIGSEGV && seen_trap == TRAP_PF && seen_address == address && seen_error == ERROR_USER);
	FAULTS(write_at(address));
	seen_error &= ~(unsigned long)ERROR_PRESENT;
	CHECK(seen_signal == SIGSEGV && seen_address == address && seen_error == (ERROR_USER | ERROR_WRITE));
	FAULTS(copy_from(address));
	CHECK(seen_signal == SIGSEGV && seen_address == address);
	FAULTS(jump_to(address));
	seen_error &= ~(unsigned long)ERROR_PRESENT;
	CHECK(seen_signal == SIGSEGV && seen_address == address && seen_rip == address);
	CHECK(seen_error == (ERROR_USER | ERROR_FETCH));
	FAULTS(call_to(address));
	CHECK(seen_signal == SIGSEGV && seen_rip == address);
	FAULTS(return_to(address));
	CHECK(seen_signal == SIGSEGV && seen_rip == address);
	/* the kernel refuses it as a buffer */
	CHECK(write(1, (const void *)address, 1) == -1);
	CHECK(read(0, (void *)address, 0) <= 0);
}

static void test_kernel_addresses(void)
{
	static const uintptr_t addresses[] = {0xffffffff81000000, 0xffffffff81000010, 0xffff888000000000,
					      0xffff888001000000, 0xfffffe0000000000, 0xffffffffff5fd000,
					      0xfffffffffffff000, 0x10000000};

	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
			check_kernel_address(addresses[i]);
	for (int i = 0; i < 20; i++) {
		FAULTS(read_at(0x800000000000));
		CHECK(seen_signal == SIGSEGV && seen_trap == TRAP_GP && seen_address == 0);
		FAULTS(jump_to(0x8000000000000000));
		CHECK(seen_signal == SIGSEGV && seen_trap == TRAP_GP);
		FAULTS(return_to(0xdead000000000000));
		CHECK(seen_signal == SIGSEGV && seen_trap == TRAP_GP);
	}
}

static void test_plain_faults(void)
{
	uint8_t *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(page != MAP_FAILED);
	for (int i = 0; i < 20; i++) {
		FAULTS(read_at(8));
		check_page_fault(8, ERROR_USER, SEGV_MAPERR);
		FAULTS(write_at(16));
		check_page_fault(16, ERROR_USER | ERROR_WRITE, SEGV_MAPERR);
		page[0] = 1;
		CHECK(mprotect(page, PAGE, PROT_READ) == 0);
		read_at((uintptr_t)page);
		FAULTS(write_at((uintptr_t)page));
		check_page_fault((uintptr_t)page, ERROR_USER | ERROR_WRITE | ERROR_PRESENT, SEGV_ACCERR);
		FAULTS(jump_to((uintptr_t)page));
		check_page_fault((uintptr_t)page, ERROR_USER | ERROR_FETCH | ERROR_PRESENT, SEGV_ACCERR);
		CHECK(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
		FAULTS(divide_by(0));
		CHECK(seen_signal == SIGFPE && seen_code == FPE_INTDIV && seen_trap == TRAP_DE);
		FAULTS(__asm__ volatile("ud2"));
		CHECK(seen_signal == SIGILL && seen_trap == TRAP_UD);
		FAULTS(__asm__ volatile("hlt"));
		CHECK(seen_signal == SIGSEGV && seen_trap == TRAP_GP);
		FAULTS(__asm__ volatile("movq %%cr3, %%rax" : : : "rax"));
		CHECK(seen_signal == SIGSEGV && seen_trap == TRAP_GP);
	}
	/* a store across a page's end whose second half may not be written leaves the first half alone */
	memset(page, 0, 2 * PAGE);
	CHECK(mprotect(page + PAGE, PAGE, PROT_READ) == 0);
	FAULTS(write_at((uintptr_t)page + PAGE - 4));
	CHECK(seen_address == (uintptr_t)page + PAGE);
	for (int i = 0; i < 4; i++)
		CHECK(page[PAGE - 4 + i] == 0);
	munmap(page, 2 * PAGE);
}

/* mov eax, value; ret */
static void put_function(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = 0xc3;
}

static uint8_t *map_code(uint8_t *at)
{
	uint8_t *page = mmap(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

	CHECK(page != MAP_FAILED);
	return page;
}

static uint8_t *reserve(size_t pages)
{
	uint8_t *at = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED);
	map_code(at);
	return at;
}

static uint32_t run(const uint8_t *code)
{
	return ((uint32_t(*)(void))(uintptr_t)code)();
}

/* One address, code after code: munmap and mmap, mmap over it, mprotect, and jumps from a page that stays. */
static void test_replaced_code(void)
{
	uint8_t *page = reserve(2), *jumper = map_code(page + PAGE);
	int32_t distance = -(int32_t)PAGE - 5;

	jumper[0] = 0xe9;
	memcpy(jumper + 1, &distance, 4);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		put_function(page, i);
		CHECK(run(page) == i && run(page) == i && run(jumper) == i && run(jumper) == i);
		put_function(page, i + 1000);
		CHECK(run(page) == i + 1000 && run(jumper) == i + 1000);
		CHECK(munmap(page, PAGE) == 0);
		FAULTS(run(page));
		check_page_fault((uintptr_t)page, ERROR_USER | ERROR_FETCH, SEGV_MAPERR);
		FAULTS(run(jumper));
		check_page_fault((uintptr_t)page, ERROR_USER | ERROR_FETCH, SEGV_MAPERR);
		map_code(page);
		put_function(page, i + 2000);
		CHECK(run(jumper) == i + 2000 && run(page) == i + 2000);
		map_code(page);
		put_function(page, i + 3000);
		CHECK(run(jumper) == i + 3000 && run(page) == i + 3000);
		CHECK(mprotect(page, PAGE, PROT_READ) == 0);
		FAULTS(run(jumper));
		check_page_fault((uintptr_t)page, ERROR_USER | ERROR_FETCH | ERROR_PRESENT, SEGV_ACCERR);
		CHECK(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
		CHECK(run(jumper) == i + 3000 && run(page) == i + 3000);
	}
	munmap(page, 2 * PAGE);
}

static uint8_t *calling_page;
static int what_to_do;

/* call *callee; mov eax, value; ret */
static void put_caller(uint8_t *at, uint32_t value, void (*callee)(void))
{
	static const uint8_t head[] = {0x48, 0x83, 0xec, 0x08, 0x48, 0xb8}; /* sub rsp, 8; mov rax, imm64 */
	static const uint8_t tail[] = {0xff, 0xd0, 0x48, 0x83, 0xc4, 0x08}; /* call rax; add rsp, 8 */

	memcpy(at, head, 6);
	memcpy(at + 6, &callee, 8);
	memcpy(at + 14, tail, 6);
	put_function(at + 20, value);
}

static void callee(void)
{
	switch (what_to_do) {
	case 1: /* replaced */
		CHECK(munmap(calling_page, PAGE) == 0);
		map_code(calling_page);
		put_caller(calling_page, 222, callee);
		break;
	case 2: /* gone */
		CHECK(munmap(calling_page, PAGE) == 0);
		break;
	case 3: /* written */
		put_caller(calling_page, 333, callee);
		break;
	case 4: /* not executable any more */
		CHECK(mprotect(calling_page, PAGE, PROT_READ) == 0);
		break;
	default:
		break;
	}
}

static void test_replaced_caller(void)
{
	calling_page = reserve(1);
	for (int i = 0; i < ROUNDS; i++) {
		map_code(calling_page);
		put_caller(calling_page, 111, callee);
		what_to_do = 0;
		CHECK(run(calling_page) == 111 && run(calling_page) == 111);
		what_to_do = 1;
		CHECK(run(calling_page) == 222);
		what_to_do = 3;
		CHECK(run(calling_page) == 333);
		what_to_do = 2;
		FAULTS(run(calling_page));
		check_page_fault((uintptr_t)calling_page + 16, ERROR_USER | ERROR_FETCH, SEGV_MAPERR);
		map_code(calling_page);
		put_caller(calling_page, 111, callee);
		what_to_do = 4;
		FAULTS(run(calling_page));
		check_page_fault((uintptr_t)calling_page + 16, ERROR_USER | ERROR_FETCH | ERROR_PRESENT, SEGV_ACCERR);
	}
	munmap(calling_page, PAGE);
}

/* Code written through another mapping of the same memory, and by the kernel. */
static void test_aliases(void)
{
	int fd = memfd_create("code", 0);
	uint8_t *writable, *code, function[6];

	CHECK(fd >= 0 && ftruncate(fd, (off_t)PAGE) == 0);
	writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	code = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(writable != MAP_FAILED && code != MAP_FAILED);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		put_function(writable, i);
		CHECK(run(code) == i);
		put_function(function, i + 1000);
		CHECK(pwrite(fd, function, sizeof(function), 0) == sizeof(function));
		CHECK(run(code) == i + 1000);
		put_function(function, i + 2000);
		struct iovec from = {function, sizeof(function)}, to = {writable, sizeof(function)};

		if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) == sizeof(function))
			CHECK(run(code) == i + 2000);
	}
}

/* Parent and child have different code at one address and take turns. */
static void test_two_processes(void)
{
	uint8_t *page = map_code(NULL);
	int to_child[2], to_parent[2], status;
	char token = 0;
	pid_t child;

	put_function(page, 1);
	CHECK(run(page) == 1);
	CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		uint32_t value = 1;

		for (int i = 0; i < ROUNDS; i++) {
			if (read(to_child[0], &token, 1) != 1 || run(page) != value)
				_exit(1);
			value = (uint32_t)i + 5000;
			put_function(page, value);
			if (run(page) != value || write(to_parent[1], &token, 1) != 1)
				_exit(2);
		}
		_exit(0);
	}
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t value = (uint32_t)i + 9000;

		put_function(page, value);
		CHECK(run(page) == value);
		CHECK(write(to_child[1], &token, 1) == 1 && read(to_parent[0], &token, 1) == 1);
		CHECK(run(page) == value);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	munmap(page, PAGE);
}

static volatile int depth;

static int overflow(int n)
{
	volatile char room[512];

	room[n & 511] = (char)n;
	depth++;
	return n < 1 << 30 ? overflow(n + 1) + room[n & 255] : 0;
}

static void test_stack_overflow(void)
{
	for (int i = 0; i < 2; i++) {
		depth = 0;
		FAULTS(overflow(0));
		CHECK(seen_signal == SIGSEGV && depth > 10000);
	}
}

static void set_ac(int on)
{
	unsigned long flags;

	/* past the red zone */
	__asm__ volatile("sub $128, %%rsp\n\tpushfq\n\tpop %0\n\tadd $128, %%rsp" : "=r"(flags));
	flags = on ? flags | 0x40000 : flags & ~0x40000ul;
	__asm__ volatile("sub $128, %%rsp\n\tpush %0\n\tpopfq\n\tadd $128, %%rsp" : : "r"(flags) : "cc");
}

/* Linux sets CR0.AM: a program that sets RFLAGS.AC has its accesses checked. */
static void test_alignment(void)
{
	static _Alignas(64) uint8_t data[64];

	for (int i = 0; i < 3; i++) {
		read_at((uintptr_t)data + 1);
		set_ac(1);
		read_at((uintptr_t)data + 8);
		set_ac(0);
		FAULTS(set_ac(1); read_at((uintptr_t)data + 4));
		CHECK(seen_signal == SIGBUS && seen_trap == TRAP_AC && seen_code == BUS_ADRALN);
		FAULTS(set_ac(1); write_at((uintptr_t)data + 1));
		CHECK(seen_signal == SIGBUS && seen_trap == TRAP_AC);
	}
}

static volatile uint32_t watched[2];

static __attribute__((noinline)) void note(uint32_t value)
{
	watched[1] = value;
	__asm__ volatile("" : : : "memory");
}

static void poke(pid_t child, unsigned number, unsigned long value)
{
	CHECK(ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[number]), value) == 0);
}

static unsigned long peek(pid_t child, size_t offset)
{
	return (unsigned long)ptrace(PTRACE_PEEKUSER, child, offset, 0);
}

static void expect_trap(pid_t child, unsigned long cause)
{
	int status;

	CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	CHECK((peek(child, offsetof(struct user, u_debugreg[6])) & 15) == cause);
	poke(child, 6, 0);
}

/* What gdb makes hardware watchpoints and breakpoints of. */
static void test_debug_registers(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		for (uint32_t i = 1; i <= 3; i++) {
			note(i);
			watched[0] = i;
		}
		_exit(5);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	poke(child, 0, (uintptr_t)&watched[0]);
	poke(child, 1, (uintptr_t)note);
	poke(child, 7, 1 | 1 << 2 | 0xdul << 16); /* writes of 4 bytes; execution */
	for (uint32_t i = 1; i <= 3; i++) {
		expect_trap(child, 2);
		CHECK(peek(child, offsetof(struct user, regs.rip)) == (uintptr_t)note);
		CHECK((uint32_t)ptrace(PTRACE_PEEKDATA, child, &watched[1], 0) == i - 1);
		expect_trap(child, 1);
		CHECK((uint32_t)ptrace(PTRACE_PEEKDATA, child, &watched[0], 0) == i);
	}
	CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

int main(void)
{
	static uint8_t signal_stack[65536];
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};

	/* as init: in a child, because the kernel takes faults of init itself for worth a line on the console each */
	if (getpid() == 1 && fork() != 0) {
		wait(NULL);
		reboot(RB_POWER_OFF);
	}
	CHECK(sigaltstack(&stack, NULL) == 0);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		CHECK(sigaction(signals[i], &action, NULL) == 0);
	test_plain_faults();
	test_kernel_addresses();
	test_replaced_code();
	test_replaced_caller();
	test_aliases();
	test_two_processes();
	test_stack_overflow();
	test_alignment();
	test_debug_registers();
	printf("HOSTILE ok\n");
	return 0;
}
