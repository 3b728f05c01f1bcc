/*
 * Shows what lifting makes of code in an ELF file: lift_show ELF ADDRESS [ir]. Prints the guest's instructions and a
 * disassembly of the lifted text (by objdump), or with `ir` the IR behind the optimiser.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lift.h"
#include "util/err.h"
#include "x86/mode.h"

/* As Linux has it in user mode. */
#define MODE (MODE_USER | MODE_OSFXSR | MODE_OSXSAVE | MODE_MP | 7u << MODE_XCR0_SHIFT)

static u8 *read_file(const char *path, u64 *size)
{
	FILE *file = fopen(path, "rb");

	if (!file || fseek(file, 0, SEEK_END) < 0)
		return NULL;
	*size = (u64)ftell(file);
	rewind(file);
	u8 *bytes = malloc(*size);

	if (bytes && fread(bytes, 1, *size, file) != *size)
		bytes = NULL;
	fclose(file);
	return bytes;
}

/* The bytes at `address`, up to the end of its page at most. */
static const u8 *find(const u8 *bytes, u64 address, unsigned *length)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)bytes;
	const Elf64_Phdr *p = (const Elf64_Phdr *)(bytes + header->e_phoff);

	for (unsigned i = 0; i < header->e_phnum; i++) {
		if (p[i].p_type != PT_LOAD || address - p[i].p_vaddr >= p[i].p_filesz)
			continue;
		u64 rest = p[i].p_vaddr + p[i].p_filesz - address, page = PAGE_SIZE - PAGE_OFFSET(address);

		*length = (unsigned)(rest < page ? rest : page);
		return bytes + p[i].p_offset + (address - p[i].p_vaddr);
	}
	return NULL;
}

static void disassemble(const struct lifted *lifted)
{
	char path[] = "/tmp/lift_show_XXXXXX", command[128];
	int fd = mkstemp(path);

	if (fd < 0)
		return;
	if (write(fd, lifted->text, lifted->text_size) == (ssize_t)lifted->text_size) {
		snprintf(command, sizeof(command),
			 "objdump -D -b binary -m i386:x86-64 -M intel --no-show-raw-insn %s | tail -n +8", path);
		if (system(command))
			fprintf(stderr, "objdump failed\n");
	}
	close(fd);
	unlink(path);
}

static void print(const char *ir)
{
	fputs(ir, stdout);
}

int main(int argc, char **argv)
{
	static struct scan scan;
	struct scan_options options = {.max = SCAN_ROOM};
	struct lift_options lift = {.counted = false};
	struct lift_loop loops[SCAN_ROOM];
	bool items[SCAN_ROOM] = {false};
	struct err err = ERR_INIT;
	unsigned length;
	u64 size, address = argc > 2 ? strtoull(argv[2], NULL, 16) : 0;
	const u8 *file = argc > 2 ? read_file(argv[1], &size) : NULL;
	const u8 *code = file ? find(file, address, &length) : NULL;

	if (!code || scan_unit(&scan, address, code, length, length, &options) < 0) {
		fprintf(stderr, "usage: lift_show ELF ADDRESS [ir]\n");
		return 2;
	}
	for (unsigned i = 0; i < scan.count; i++) {
		char text[128];

		insn_format(&scan.item[i].insn, address + scan.item[i].offset, text, sizeof(text));
		printf("%3u %c%c %#llx %s\n", i, scan.item[i].block ? 'B' : ' ', scan.item[i].loop_head ? 'L' : ' ',
		       (unsigned long long)address + scan.item[i].offset, text);
	}
	unsigned count = lift_find_loops(&scan, MODE, loops);

	for (unsigned i = 0; i < count; i++) {
		memset(items + loops[i].first, 1, loops[i].last - loops[i].first + 1u);
		printf("loop %u to %u\n", loops[i].first, loops[i].last);
	}
	struct lift_worker *worker = lift_worker_create(&err);
	const char *reason = "";

	if (!worker)
		return 1;
	if (argc > 3)
		lift_worker_dump(worker, print);
	struct lifted *lifted = lift_compile(worker, &scan, items, &lift, &reason);

	if (!lifted) {
		printf("not lifted: %s\n", reason);
		return 1;
	}
	fflush(stdout);
	disassemble(lifted);
	for (unsigned i = 0; i < SCAN_ROOM; i++) {
		if (lifted->function[i] != LIFT_NONE)
			printf("item %u at %#x\n", i, lifted->function[i]);
	}
	lift_free(lifted);
	lift_worker_destroy(worker);
	return 0;
}
